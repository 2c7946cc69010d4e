"""The models in memory: loaded once, kept by last use within a budget of bytes, never taken away while in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something that knows what memory it takes, in bytes."""

    @property
    def bytes(self) -> int: ...


Key = TypeVar("Key")
Model = TypeVar("Model", bound=Sized)


@dataclass(slots=True)
class _Kept(Generic[Model]):
    model: Model
    bytes: int
    users: int = 0


class ModelCache(Generic[Key, Model]):
    """Models by key, the one used last at the end. For one thread.

    ``budget`` bounds what is kept, in bytes. A single model larger than that is kept for as long as it is the only one:
    refusing it would mean loading it again for every picture.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._kept: OrderedDict[Key, _Kept[Model]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    @property
    def keys(self) -> tuple[Key, ...]:
        """What is loaded, the one used last at the end."""
        return tuple(self._kept)

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return sum(kept.bytes for kept in self._kept.values())

    @contextmanager
    def use(self, key: Key, load: Callable[[], Model]) -> Iterator[Model]:
        """The model of ``key``, loaded if it is not here; it stays at least until the block ends."""
        if key not in self._kept:
            model = load()
            self._kept[key] = _Kept(model, model.bytes)
        kept = self._kept[key]
        self._kept.move_to_end(key)
        kept.users += 1
        try:
            self._evict()
            yield kept.model
        finally:
            kept.users -= 1

    def clear(self) -> None:
        """Forget everything that is not in use."""
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            del self._kept[key]

    def _evict(self) -> None:
        idle = [key for key, kept in self._kept.items() if not kept.users]
        while idle and self.bytes > self._budget:
            del self._kept[idle.pop(0)]
