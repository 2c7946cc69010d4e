"""Which weights these are: a hash over the files, by which a picture's recipe can tell whether they are the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from inference.catalog.parts import TEXTS, is_weight_file

BLOB_NAME = re.compile(r"[0-9a-f]{64}")


def folder_digest(folder: Path, variant: str | None) -> str:
    """SHA-256 (hex) over the weights of this variant and the configurations in a network's folder."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in TEXTS or is_weight_file(path, variant)]
    return combine(f"{path.name} {file_digest(path)}" for path in files)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file. The hub's cache names large files by just that, which saves reading them."""
    blob = path.resolve()
    if BLOB_NAME.fullmatch(blob.name):
        return blob.name
    stat = blob.stat()
    return _digest(blob, stat.st_size, stat.st_mtime_ns)


def combine(lines: Iterable[str]) -> str:
    """SHA-256 (hex) over lines."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """Size and time are only there to notice that the file was replaced."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
