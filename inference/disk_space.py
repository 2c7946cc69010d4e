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


def spare_bytes(folder: Path) -> int:
    """What downloads leave free on that disk: 2 GiB, but of a small one at most a quarter."""
    return min(2 * 2**30, shutil.disk_usage(existing(folder)).total // 4)
