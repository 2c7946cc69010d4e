"""From TOML to catalogue entries: every key is read once, with its type; one that is left over is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from inference.catalog.dropped import Folders
from inference.catalog.entries import (
    GUIDANCE,
    LONGEST_NAME,
    STEPS,
    AdapterEntry,
    Checked,
    Family,
    Kind,
    Limits,
    ModelEntry,
    Prediction,
    SafetyEntry,
)
from inference.catalog.sources import NETWORK_CONFIG, PIPELINE_INDEX, Source
from inference.contract import MAX_STEPS, SIZE_MULTIPLE, Adapter

LORA_FILE = "pytorch_lora_weights.safetensors"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

EXPLICIT_LABELS = ("nsfw",)
EXPLICIT_FROM = 0.5

Choice = TypeVar("Choice", bound=StrEnum)


class CatalogError(ValueError):
    """The catalogue cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All that a catalogue's file says; ``default`` is the name of a model."""

    default: str
    models: tuple[ModelEntry, ...]
    adapters: tuple[AdapterEntry, ...]
    folders: Folders
    safety: SafetyEntry | None
    previews: Mapping[Family, Source]


def read_document(document: dict[str, Any], folder: Path) -> Document:
    """The entries; paths are relative to ``folder``. Raises ``CatalogError``."""
    top = _Block("the top of the file", document)
    read = Document(
        default=top.text("default"),
        models=tuple(_model(name, block, folder) for name, block in top.blocks("models")),
        adapters=tuple(_adapter(name, block, folder) for name, block in top.blocks("adapters", {})),
        folders=_folders(top.inner("scan", {}), folder),
        safety=_safety(top, folder) if "safety" in top else None,
        previews=_previews(top.inner("previews", {}), folder),
    )
    top.finish()
    return read


def _folders(block: _Block, folder: Path) -> Folders:
    checkpoints, loras = block.text("checkpoints", ""), block.text("loras", "")
    lcm_loras = _by_family(block.inner("lcm_loras", {}), folder, LORA_FILE)
    block.finish()
    return Folders(
        checkpoints=folder / checkpoints if checkpoints else None,
        loras=folder / loras if loras else None,
        lcm_loras=lcm_loras,
    )


def _previews(block: _Block, folder: Path) -> Mapping[Family, Source]:
    block.where = "[previews]"
    found = _by_family(block, folder, NETWORK_CONFIG)
    for family, source in found.items():
        if source.is_one_file:
            raise block.error(family, f"must be a folder with its {NETWORK_CONFIG}")
    return found


def _by_family(block: _Block, folder: Path, marker: str) -> dict[Family, Source]:
    return {block.as_choice(key, Family): _source(block, key, folder, marker) for key in block.keys}


def _safety(top: _Block, folder: Path) -> SafetyEntry:
    block = top.inner("safety")
    block.where = "[safety]"
    entry = SafetyEntry(
        weights=_source(block, "weights", folder, NETWORK_CONFIG),
        labels=block.texts("labels") if "labels" in block else EXPLICIT_LABELS,
        threshold=block.number("threshold", EXPLICIT_FROM),
    )
    block.finish()
    if not entry.labels:
        raise block.error("labels", "name at least one of the classifier's labels")
    if not 0 < entry.threshold <= 1:
        raise block.error("threshold", "must be above 0 and at most 1")
    return entry


def _checked_name(name: str, block: _Block) -> str:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise block.error("name", f"must have 1 to {LONGEST_NAME} characters, and has {len(name)}")
    if ":" in name:
        raise block.error("name", "must not contain “:”, which ends it in a prompt's LoRAs and in buttons")
    return name


def _title(name: str, block: _Block) -> str:
    title = block.text("title", name)
    if not title.strip():
        raise block.error("title", "must not be blank")
    return title


def _adapter(name: str, block: _Block, folder: Path) -> AdapterEntry:
    entry = AdapterEntry(
        name=_checked_name(name, block),
        title=_title(name, block),
        family=block.choice("family", Family),
        weights=_source(block, "weights", folder, LORA_FILE),
        licence=block.text("licence", "unknown"),
        description=block.text("description", ""),
        triggers=block.texts("triggers"),
    )
    block.finish()
    return entry


def _model(name: str, block: _Block, folder: Path) -> ModelEntry:
    kind = block.choice("kind", Kind)
    width, height = block.sides("size")
    smallest, largest = block.sides("sides")
    entry = ModelEntry(
        name=_checked_name(name, block),
        title=_title(name, block),
        family=block.choice("family", Family),
        kind=kind,
        weights=replace(
            _source(block, "weights", folder, PIPELINE_INDEX),
            without=tuple(part for part in ("unet", "vae") if part in block),
        ),
        unet=_source(block, "unet", folder, NETWORK_CONFIG) if "unet" in block else None,
        vae=_source(block, "vae", folder, NETWORK_CONFIG) if "vae" in block else None,
        prediction=block.choice("prediction", Prediction) if "prediction" in block else None,
        lcm_lora=_source(block, "lcm_lora", folder, LORA_FILE) if "lcm_lora" in block else None,
        styles=_styles(block),
        steps=_limits(block, "steps", STEPS),
        guidance=_limits(block, "guidance", GUIDANCE[kind]),
        width=width,
        height=height,
        smallest_side=smallest,
        largest_side=largest,
        licence=block.text("licence", "unknown"),
        description=block.text("description", ""),
        examples=block.texts("examples"),
        harmless=block.flag("harmless"),
        checked=block.choice("safety", Checked, Checked.CATALOGUE),
    )
    block.finish()
    _check(entry, block)
    return entry


def _check(entry: ModelEntry, block: _Block) -> None:
    if (entry.lcm_lora is None) is (entry.kind is Kind.LORA):
        raise block.error("lcm_lora", f"belongs to kind “{Kind.LORA}”, and only there")
    if entry.checked is Checked.OWN and entry.harmless:
        raise block.error("safety", "a harmless model has none")
    if entry.checked is Checked.OWN and entry.weights.is_one_file:
        raise block.error("safety", "only a diffusers folder has a safety checker of its own")
    if entry.prediction is not None and not entry.weights.is_one_file:
        raise block.error("prediction", "a diffusers folder says that itself")
    if not 1 <= entry.steps.low <= entry.steps.high <= MAX_STEPS:
        raise block.error("steps", f"must lie within 1 to {MAX_STEPS}")
    for side in (entry.width, entry.height):
        if not entry.smallest_side <= side <= entry.largest_side:
            raise block.error("size", "must lie within “sides”")


def _source(block: _Block, key: str, folder: Path, marker: str) -> Source:
    where = block.inner(key)
    path, hub = where.text("path", ""), where.text("hub", "")
    if bool(path) is bool(hub):
        raise where.error("path", "give exactly one of “path” and “hub”")
    if hub and not HUB_ID.fullmatch(hub):
        raise where.error("hub", f"“{hub}” is not of the form owner/name")
    file = where.text("file", marker)
    source = Source(
        path=folder / path if path else None,
        hub=hub or None,
        revision=where.text("revision", "") or None,
        variant=where.text("variant", "") or None,
        marker=file,
    )
    where.finish()
    return source


def _styles(block: _Block) -> tuple[Adapter, ...]:
    inner = block.inner("styles", {})
    return tuple(Adapter(name=name, strength=inner.number(name)) for name in inner.keys)


def _limits(block: _Block, key: str, usual: Limits) -> Limits:
    inner = block.inner(key, {})
    limits = Limits(
        default=inner.number("default", usual.default),
        low=inner.number("low", usual.low),
        high=inner.number("high", usual.high),
    )
    inner.finish()
    if limits.default not in limits:
        raise block.error(key, f"the default {limits.default:g} is not within {limits.low:g} to {limits.high:g}")
    return limits


class _Block:
    """A TOML table that remembers which of its keys were read."""

    def __init__(self, where: str, table: dict[str, Any]) -> None:
        self.where = where
        self._table = table
        self._unread = set(table)

    def __contains__(self, key: str) -> bool:
        return key in self._table

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._table)

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
            raise self.error(key, f"“{value}” is none of {', '.join(options)}")
        return options(value)

    def inner(self, key: str, default: dict[str, Any] | None = None) -> _Block:
        value = self._take(key, default)
        if not isinstance(value, dict):
            raise self.error(key, "must be a table")
        return _Block(f"{self.where} {key}", value)

    def blocks(self, key: str, default: dict[str, Any] | None = None) -> Iterator[tuple[str, _Block]]:
        inner = self.inner(key, default)
        for name in inner.keys:
            block = inner.inner(name)
            block.where = f"[{key}.{name}]"
            yield name, block

    def finish(self) -> None:
        """Raises ``CatalogError`` for a key that nothing reads."""
        if self._unread:
            raise self.error(min(self._unread), "unknown key")

    def _take(self, key: str, default: Any) -> Any:
        self._unread.discard(key)
        value = self._table.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value
