"""Scans the folders that people drop files into: what is there, and whether it has changed. Reads no contents."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inference.catalog.recognise import DENOISER_CONFIG, config_beside
from inference.catalog.sources import FILE, NETWORK_CONFIG, PICKLES, PIPELINE_INDEX

ENDINGS = (FILE, *PICKLES)
Glimpse = tuple[str, int, int]
"""Path, size and time (in ns), of all that tells what it is: enough to see whether it has changed."""
Seen = tuple[Glimpse, ...]
"""Everything in a folder."""


def glance(folder: Path | None) -> Seen:
    """Files and diffusers folders in ``folder`` and its subfolders, breadth first."""
    found: list[Glimpse] = []
    waiting, entered = deque([] if folder is None else [str(folder)]), set[str]()
    while waiting:
        place = waiting.popleft()
        real = os.path.realpath(place)
        if real in entered:  # a link back to an ancestor
            continue
        entered.add(real)
        items = [*_items(place)]
        found += sorted(filter(None, map(_glimpse, items)))
        waiting += sorted(item.path for item in items if _leads_on(item))
    return tuple(found)


def is_as_seen(glimpse: Glimpse) -> bool:
    """Whether it is still there, and has not changed."""
    path = Path(glimpse[0])
    try:
        return glimpse == (_glimpse_of_folder(path) if path.is_dir() else _glimpse_of_file(path))
    except OSError:
        return False


def _items(folder: str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as items:  # missing, removed meanwhile, or unreadable
        yield from items


def _leads_on(item: os.DirEntry[str]) -> bool:
    """Whether to descend into it: a readable folder, neither hidden nor that of a model or a network."""
    marks = (PIPELINE_INDEX, NETWORK_CONFIG)
    try:
        hidden = item.name.startswith(".") or not item.is_dir()
        return not hidden and not any(Path(item, mark).exists() for mark in marks)
    except OSError:  # only root may read it, or it is a link to itself
        return False


def _glimpse(item: os.DirEntry[str]) -> Glimpse | None:
    """None for anything else than these files and folders."""
    try:
        if item.is_dir():
            return _glimpse_of_folder(Path(item))
        if item.name.endswith(ENDINGS):
            return _glimpse_of_file(Path(item))
    except OSError:  # removed meanwhile, or not a diffusers folder
        pass
    return None


def _glimpse_of_file(path: Path) -> Glimpse:
    stats = [path.stat()]
    with suppress(OSError):  # most have no configuration beside them
        stats += [config_beside(path).stat()]
    return _of(path, stats)


def _glimpse_of_folder(path: Path) -> Glimpse:
    stats = [(path / PIPELINE_INDEX).stat()]
    with suppress(OSError):  # still being copied, or a pipeline without a denoiser
        stats += [(path / DENOISER_CONFIG).stat(), (path / DENOISER_CONFIG.parent).stat()]
    return _of(path, stats)


def _of(path: Path, stats: list[os.stat_result]) -> Glimpse:
    return str(path), sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
