"""The lowest tier: flat buffers in files, so that a model loads again without being read, merged and cast anew."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inference.disk_space import free_bytes
from inference.memory.layout import Architecture
from inference.memory.part import Label, Part
from inference.whole_files import UNFINISHED, draft_of, replace_file

log = logging.getLogger(__name__)

FLAT = "weights"
FORMAT = 4
"""Incremented whenever files are read, merged, cast or laid out differently than before."""

ABANDONED_S = 3600.0
"""Seconds after which an unfinished file counts as abandoned."""
BUFFER, LIST = ".safetensors", ".json"


def default_budget(folder: Path) -> int:
    """A tenth of the free space on that disk, in bytes; what the folder itself takes counts as free."""
    inside = sum(stat.st_size for _, stat in _files(folder)) if folder.is_dir() else 0
    return (free_bytes(folder) + inside) // 10


class Disk:
    """A folder of at most ``budget`` bytes, which several processes may share; least recently used files go first.

    A model is a list of parts by name, under a key that changes with everything that the weights are made from. Damaged
    or missing files count as never kept; a full disk is only logged. ``variant`` separates what different devices make
    of the same files.
    """

    def __init__(self, folder: Path, budget: int, *, variant: str = "") -> None:
        self._folder = folder
        self._budget = budget
        self._variant = variant

    def parts(self, key: str) -> dict[str, Part] | None:
        """The parts of the model ``key`` by name, memory-mapped; None if one of them is missing or damaged."""
        try:
            path = self._folder / self._list(key)
            digests = json.loads(path.read_text(encoding="utf-8"))
            os.utime(path)
            return {name: self._open(str(digest)) for name, digest in digests.items()}
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def keep(self, key: str, parts: Mapping[str, Part]) -> None:
        """Write the parts that are not here yet, if the budget allows."""
        wanted = {part.label.digest: part for part in parts.values()}
        if sum(map(_file_bytes, wanted.values())) > self._budget:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            missing = [part for part in wanted.values() if not self._path(part.label.digest).exists()]
            self._make_room(sum(map(_file_bytes, missing)), wanted.keys())
            for part in missing:
                self._write(part)
            digests = {name: part.label.digest for name, part in parts.items()}
            replace_file(self._folder / self._list(key), json.dumps(digests).encode())
        except (OSError, SafetensorError) as error:
            log.warning("loaded weights could not be kept in %s: %s", self._folder, error)

    def _open(self, digest: str) -> Part:
        path = self._path(digest)
        with safe_open(path, framework="pt") as file:
            flat: Tensor = file.get_tensor(FLAT)
            architecture = Architecture.from_json(file.metadata()["architecture"])
        if flat.numel() != architecture.bytes:
            raise ValueError(f"{path.name} is not as long as it says")
        os.utime(path)
        return Part(label=Label(digest, architecture), flat=flat)

    def _write(self, part: Part) -> None:
        path = self._path(part.label.digest)
        unfinished = draft_of(path)
        try:
            save_file({FLAT: part.whole()}, unfinished, metadata={"architecture": part.label.architecture.json})
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_room(self, needed: int, wanted: Container[str]) -> None:
        """Remove files, least recently used first, until ``needed`` more bytes fit."""
        files = [(stat.st_mtime, stat.st_size, path) for path, stat in _files(self._folder)]
        taken = sum(size for _, size, _ in files)
        for used_at, size, path in sorted(files):
            if taken + needed <= self._budget:
                return
            if path.stem not in wanted and (path.suffix != UNFINISHED or used_at < time.time() - ABANDONED_S):
                path.unlink(missing_ok=True)
                taken -= size

    def _list(self, key: str) -> str:
        """File name of a model's list. It depends on ``FORMAT``, so what older code has kept is not found."""
        return hashlib.sha256(f"{FORMAT} {self._variant} {key}".encode()).hexdigest() + LIST

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}{BUFFER}"


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files in the folder, except those that another process renames or removes meanwhile."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            yield path, path.stat()


def _file_bytes(part: Part) -> int:
    """Size of its file, with its share of the list."""
    return part.bytes + len(part.label.architecture.json) + 1024
