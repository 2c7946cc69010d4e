"""Where something will be written, and how much room there is."""

from __future__ import annotations

import shutil
from pathlib import Path


def existing(folder: Path) -> Path:
    """``folder``, or as much of its path as there is."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """What is free on the disk that ``folder`` is on, or will be."""
    return shutil.disk_usage(existing(folder)).free
