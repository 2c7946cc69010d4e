"""Files dropped into the models folders: each is a model or a LoRA of its own, recognised by its header alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from inference.catalog.entries import (
    GUIDANCE,
    LONGEST_NAME,
    LONGEST_TITLE,
    STEPS,
    AdapterEntry,
    Family,
    Kind,
    ModelEntry,
)
from inference.catalog.glance import Glimpse, Seen, glance, is_as_seen
from inference.catalog.header import HeaderError
from inference.catalog.recognise import (
    FAMILY_TITLES,
    SD2_UNSAID,
    FileInfo,
    What,
    read_folder_info,
    read_info,
)
from inference.catalog.sources import FILE, PICKLE_REFUSED, PICKLES, PIPELINE_INDEX, Source

SIDES = {
    Family.SD15: (512, 256, 1024),
    Family.SD21: (768, 256, 1024),
    Family.SDXL: (1024, 512, 1536),
    Family.SSD1B: (1024, 512, 1536),
    Family.VEGA: (1024, 512, 1536),
}
"""The best side of a family's pictures, and the smallest and largest that are accepted, in pixels."""

FEW_STEPS_IN_ITS_NAME = re.compile(
    r"LCM|(?i:lcm(?![a-z])|(?<![a-z])lcm)"
    r"|(?i:dmd2|lightning|turbo)"
    r"|(?i:hyper)(?![a-z])(?!(?i:[ _-]?real))"
)
"""Names of checkpoints that already draw in a few steps; nothing in the file tells. “LCM” in capitals may be anywhere,
otherwise it must begin or end a word; “hyper” must end a word, and not be the beginning of “hyper-realism”."""

IN_HUB_CACHE = re.compile(r"/models--(?:[^/]+--)?([^/]+)/snapshots/[0-9a-f]{40}$")
"""Matches the path of a snapshot, for the name of its repository without the owner's."""

REMEMBERED = 4096
"""Number of files whose headers need not be read again."""
DAMAGED = (ValueError, OSError, ArithmeticError, RuntimeError)
"""What reading a damaged or malicious file may raise."""
HASH_DIGITS = 8
"""Length of the hash that distinguishes files with the same plain name."""

Entry = TypeVar("Entry", ModelEntry, AdapterEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """``[scan]`` of the catalogue: where files may be dropped, and the LCM-LoRA that a family's checkpoints get."""

    checkpoints: Path | None = None
    loras: Path | None = None
    lcm_loras: Mapping[Family, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A dropped file that is neither a model nor a LoRA, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The contents of the folders."""

    models: tuple[ModelEntry, ...] = ()
    adapters: tuple[AdapterEntry, ...] = ()
    unusable: tuple[Unusable, ...] = ()


class Dropped:
    """Scans the folders, and reads the headers of files that are new, have changed or could not be read before.

    ``known`` are the paths that the catalogue itself names, and ``names`` the names that are already taken.
    """

    def __init__(self, folders: Folders, *, known: frozenset[Path], names: frozenset[str]) -> None:
        self._folders = folders
        self._known = known
        self._names = names
        self._seen: tuple[Seen, Seen] | None = None
        self._found = Found()
        self._named: dict[str, tuple[ModelEntry | AdapterEntry, Glimpse]] = {}

    def look(self) -> Found:
        """What is there now; the same object as long as nothing changes. Blocks while new headers are read."""
        seen = (glance(self._folders.checkpoints), glance(self._folders.loras))
        if seen != self._seen:
            self._found = self._read(*seen)
            glimpses = {Path(glimpse[0]): glimpse for glimpse in (*seen[0], *seen[1])}
            entries: tuple[ModelEntry | AdapterEntry, ...] = (*self._found.models, *self._found.adapters)
            self._named = {entry.name: (entry, glimpses[entry.weights.path]) for entry in entries if entry.weights.path}
            self._seen = seen
        return self._found

    def named(self, name: str) -> ModelEntry | AdapterEntry | None:
        """The entry of this name. As long as its file has not changed, the folders are not scanned."""
        entry, glimpse = self._named.get(name, (None, None))
        if glimpse is None or not is_as_seen(glimpse):
            self.look()
            entry, glimpse = self._named.get(name, (None, None))
        return entry

    def _read(self, checkpoints: Seen, loras: Seen) -> Found:
        folders, unusable = self._folders, list[Unusable]()
        models = _told_apart([*self._usable(checkpoints, self._model, unusable)], folders.checkpoints, self._names)
        taken = self._names | {model.name for model in models}
        adapters = _told_apart([*self._usable(loras, _adapter, unusable)], folders.loras, taken)
        return Found(models=models, adapters=adapters, unusable=tuple(unusable))

    def _usable(
        self, seen: Seen, entry: Callable[[Path, FileInfo], Entry], unusable: list[Unusable]
    ) -> Iterator[Entry]:
        for file in seen:
            path = Path(file[0])
            try:
                if path.resolve() not in self._known:
                    yield entry(path, _read(file))
            except DAMAGED as error:
                unusable.append(Unusable(path=path, reason=str(error) or type(error).__name__))

    def _model(self, path: Path, info: FileInfo) -> ModelEntry:
        family = _checkpoint_family(info)
        kind = _kind(path, info)
        if family is Family.SD21 and path.is_file() and info.prediction is None:
            raise HeaderError(SD2_UNSAID)
        if kind is Kind.LORA and family not in self._folders.lcm_loras:
            raise HeaderError(f"a checkpoint of {FAMILY_TITLES[family]}, for which no LCM-LoRA is given under [scan]")
        side, smallest, largest = SIDES[family]
        return ModelEntry(
            name=plain_name(stem_of(path)),
            title=_title(path, info),
            family=family,
            kind=kind,
            weights=Source(path=path, variant=info.variant, marker=PIPELINE_INDEX),
            lcm_lora=self._folders.lcm_loras[family] if kind is Kind.LORA else None,
            steps=STEPS,
            guidance=GUIDANCE[kind],
            width=side,
            height=side,
            smallest_side=smallest,
            largest_side=largest,
            licence="unknown",
            description=_name_of(path),
        )


def _adapter(path: Path, info: FileInfo) -> AdapterEntry:
    return AdapterEntry(
        name=plain_name(stem_of(path)),
        title=_title(path, info),
        family=_lora_family(info),
        weights=Source(path=path, marker=path.name),
        licence="unknown",
        description=path.name,
        triggers=info.triggers,
    )


@lru_cache(REMEMBERED)
def _read(file: Glimpse) -> FileInfo:
    """What a file is; size and time are in the cache key, so that it is read again when they change."""
    path = Path(file[0])
    if os.fsencode(path).decode(errors="replace") != str(path):
        raise HeaderError("its path is not in UTF-8, so safetensors cannot open it: rename it")
    if path.suffix in PICKLES:
        raise HeaderError(PICKLE_REFUSED.format(ending=path.suffix))
    return read_folder_info(path) if path.is_dir() else read_info(path)


def _kind(path: Path, info: FileInfo) -> Kind:
    if info.native:
        return Kind.NATIVE
    return Kind.MERGED if FEW_STEPS_IN_ITS_NAME.search(stem_of(path)) else Kind.LORA


def _checkpoint_family(info: FileInfo) -> Family:
    if info.what is What.LORA:
        raise HeaderError(f"{info.words}: it belongs in the LoRA folder")
    if info.undrawable is not None:
        raise HeaderError(info.undrawable)
    if info.what is not What.CHECKPOINT or info.family is None or info.family not in SIDES:
        raise HeaderError(f"{info.words}: not a checkpoint of {_listed(SIDES)}")
    return info.family


def _lora_family(info: FileInfo) -> Family:
    if info.what is What.CHECKPOINT:
        raise HeaderError(f"{info.words}: it belongs in the checkpoint folder")
    if info.what is not What.LORA or info.algorithm is not None:
        raise HeaderError(f"{info.words}: only LoRAs can be merged here")
    if info.undrawable is not None:
        raise HeaderError(info.undrawable)
    if info.family is None:
        raise HeaderError(f"a LoRA for models other than {_listed(SIDES)}")
    return info.family


def _listed(families: Iterable[Family]) -> str:
    return ", ".join(FAMILY_TITLES[family] for family in families)


def _title(path: Path, info: FileInfo) -> str:
    return (info.title or stem_of(path))[:LONGEST_TITLE]


def stem_of(path: Path) -> str:
    """The name without the suffix of a safetensors file; any other dot is part of the name."""
    return _name_of(path).removesuffix(FILE)


def _name_of(path: Path) -> str:
    """The name of a file or folder; the repository's for a snapshot in the hub's cache, which is named by a commit."""
    in_cache = IN_HUB_CACHE.search(path.as_posix())
    return in_cache[1] if in_cache else path.name


def slug(stem: str) -> str:
    """A file's stem as a name to request it by: lowercase letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:LONGEST_NAME].rstrip("-")


def plain_name(stem: str) -> str:
    """The ``slug`` of a file's stem; empty if that would drop letters that distinguish it from other files."""
    return slug(stem) if stem.isascii() else ""


def _told_apart(entries: Collection[Entry], folder: Path | None, taken: frozenset[str]) -> tuple[Entry, ...]:
    """``entries`` with names that always mean the same files, whatever else is dropped.

    A plain name is kept if it belongs to one file only. If several files share it, if it is ``taken``, or if it is
    empty, a hash of the file's path in ``folder`` is appended.
    """
    files = Counter(entry.name for entry in entries)
    hashed = [_name_with_hash(entry, folder) for entry in entries]
    taken = taken.union(hashed)
    return tuple(
        entry if entry.name and files[entry.name] == 1 and entry.name not in taken else replace(entry, name=name)
        for entry, name in zip(entries, hashed, strict=True)
    )


def _name_with_hash(entry: ModelEntry | AdapterEntry, folder: Path | None) -> str:
    """The name with a hash; a model and a LoRA at the same path in their folders get different ones."""
    path = entry.weights.path
    assert path is not None
    assert folder is not None
    place = f"{'lora ' if isinstance(entry, AdapterEntry) else ''}{path.relative_to(folder).as_posix()}"
    place = hashlib.sha256(os.fsencode(place)).hexdigest()[:HASH_DIGITS]
    base = slug(stem_of(path)) or "model"
    return f"{base[: LONGEST_NAME - HASH_DIGITS - 1].rstrip('-')}-{place}"
