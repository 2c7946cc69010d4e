"""Identifies weights by a hash over their files, by which a picture's recipe can tell whether they are the same."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from inference.catalog.parts import TEXTS, is_weight_file
from inference.whole_files import replace_file

SHA256 = re.compile(r"[0-9a-f]{64}")
WORTH_BYTES = 2**20
"""Minimum size of a file whose hash is kept beyond this process."""
ENDING = ".sha256"


class FileHashes:
    """SHA-256 of files (hex), computed once: files are recognised by their path, size, and times of change.

    With a ``folder``, the hashes of large files are kept there: reading a checkpoint only to hash it takes as long as
    reading it to draw with it. If the folder cannot be written to, only that is lost. Threads and processes may share
    it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}
        self._reads = True

    def at_hand(self) -> FileHashes:
        """A copy that raises ``LookupError`` instead of reading a large file."""
        other = copy.copy(self)
        other._reads = False
        return other

    def __call__(self, path: Path) -> str:
        """Hash of the file at ``path``. The hub's cache names large files by their hash, which then is not computed.

        Raises:
            OSError: the file cannot be read.
        """
        blob = path.resolve()
        if SHA256.fullmatch(blob.name):
            return blob.name
        identity, size = _identity(blob)
        if identity not in self._known:
            is_large = size >= WORTH_BYTES
            kept = self._folder / f"{identity}{ENDING}" if self._folder and is_large else None
            found = _kept(kept)
            if found is None and is_large and not self._reads:
                raise LookupError(f"{blob} has not been hashed yet")
            self._known[identity] = found or _computed(blob, kept)
        return self._known[identity]

    def of_folder(self, folder: Path, variant: str | None) -> str:
        """Hash over the weights of this variant and the configurations in a network's folder."""
        files = [path for path in sorted(folder.iterdir()) if path.suffix in TEXTS or is_weight_file(path, variant)]
        return combine(f"{path.name} {self(path)}" for path in files)


class FileStamps(FileHashes):
    """Detects changed files without reading them: gives path, size and times of a file instead of its hash."""

    def __call__(self, path: Path) -> str:
        return _identity(path.resolve())[0]


def combine(lines: Iterable[str]) -> str:
    """SHA-256 (hex) over lines; file names in them need not be UTF-8."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _identity(blob: Path) -> tuple[str, int]:
    """What a file is recognised by, and its size."""
    stat = blob.stat()
    return combine(map(str, (blob, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))), stat.st_size


def _kept(path: Path | None) -> str | None:
    if path is None:
        return None
    with contextlib.suppress(OSError, UnicodeError):
        found = path.read_text(encoding="ascii")
        os.utime(path)
        return found if SHA256.fullmatch(found) else None
    return None


def _computed(blob: Path, keep: Path | None) -> str:
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if keep is not None:
        with contextlib.suppress(OSError):
            keep.parent.mkdir(parents=True, exist_ok=True)
            replace_file(keep, found.encode("ascii"))
    return found
