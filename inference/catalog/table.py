"""A table of the catalogue's TOML: every key is read once, with its type; any key left unread is an error."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, TypeVar

from inference.contract import SIZE_MULTIPLE

Choice = TypeVar("Choice", bound=StrEnum)


class CatalogError(ValueError):
    """The catalogue cannot be used; the message says where and why."""


class Table:
    """A TOML table that remembers which of its keys were read; ``where`` is its place in the file, for errors.

    Reading raises ``CatalogError`` for a value of the wrong type, and for a missing one without a default.
    """

    def __init__(self, where: str, values: dict[str, Any]) -> None:
        self.where = where
        self._values = values
        self._unread = set(values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def error(self, key: str, complaint: str) -> CatalogError:
        return CatalogError(f"{self.where} {key}: {complaint}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.error(key, "must be text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise self.error(key, "must be a list of texts")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._take(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "must be a number")
        return float(value)

    def sides(self, key: str) -> tuple[int, int]:
        value = self._take(key, None)
        if not (isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value)):
            raise self.error(key, "must be two whole numbers, in pixels")
        if any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in value):
            raise self.error(key, f"must be multiples of {SIZE_MULTIPLE}")
        return value[0], value[1]

    def choice(self, key: str, options: type[Choice], default: Choice | None = None) -> Choice:
        return self._chosen(key, self.text(key, default), options)

    def as_choice(self, key: str, options: type[Choice]) -> Choice:
        """A key that itself is one of ``options``."""
        return self._chosen(key, key, options)

    def _chosen(self, key: str, value: str, options: type[Choice]) -> Choice:
        if value not in set(options):
            raise self.error(key, f"must be one of {', '.join(options)}, not “{value}”")
        return options(value)

    def inner(self, key: str, default: dict[str, Any] | None = None) -> Table:
        value = self._take(key, default)
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return Table(f"{self.where} {key}", value)

    def tables(self, key: str, default: dict[str, Any] | None = None) -> Iterator[tuple[str, Table]]:
        inner = self.inner(key, default)
        for name in inner.keys:
            table = inner.inner(name)
            table.where = f"[{key}.{name}]"
            yield name, table

    def finish(self) -> None:
        """Raises ``CatalogError`` for a key that was not read."""
        if self._unread:
            raise self.error(min(self._unread), "unknown key")

    def _take(self, key: str, default: Any) -> Any:
        self._unread.discard(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value
