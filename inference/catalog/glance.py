"""A look into the folders that people drop files into: what lies there, and whether it has changed. Reads no file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inference.catalog.recognise import DENOISER_CONFIG
from inference.catalog.sources import FILE, NETWORK_CONFIG, PICKLES, PIPELINE_INDEX

Glimpse = tuple[str, int, int]
"""Path, size and time (in ns): what tells that a file has changed."""
Seen = tuple[Glimpse, ...]
"""Everything in a folder."""


def glance(folder: Path | None) -> Seen:
    """Files and diffusers folders in ``folder`` and the folders in it, those nearest to the top first."""
    found: list[Glimpse] = []
    waiting, entered = deque([] if folder is None else [str(folder)]), set[str]()
    while waiting:
        place = waiting.popleft()
        real = os.path.realpath(place)
        if real in entered:  # a link back
            continue
        entered.add(real)
        items = [*_items(place)]
        found += sorted(filter(None, (_glimpse(item.path, is_folder=item.is_dir()) for item in items)))
        waiting += sorted(item.path for item in items if item.is_dir() and _is_plain(item))
    return tuple(found)


def _items(folder: str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as items:  # none, gone meanwhile, or not to be read
        yield from items


def _is_plain(folder: os.DirEntry[str]) -> bool:
    """Whether it is neither hidden nor a model's or a network's own."""
    marks = (PIPELINE_INDEX, NETWORK_CONFIG)
    return not folder.name.startswith(".") and not any(Path(folder, mark).exists() for mark in marks)


def _glimpse(name: str, *, is_folder: bool) -> Glimpse | None:
    """None for what is neither; of a folder, size and time of all that tells what it is."""
    path = Path(name)
    marker = path / PIPELINE_INDEX if is_folder else path
    if not is_folder and path.suffix not in (FILE, *PICKLES):
        return None
    try:
        stats = [marker.stat()]
    except OSError:  # no diffusers folder, or gone meanwhile
        return None
    if is_folder:
        with suppress(OSError):  # still being copied, or a pipeline without a denoiser
            stats += [(path / DENOISER_CONFIG).stat(), (path / DENOISER_CONFIG.parent).stat()]
    return name, sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
