"""Free disk space, also for folders that do not exist yet."""

from __future__ import annotations

import shutil
from pathlib import Path


def existing(folder: Path) -> Path:
    """``folder``, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that ``folder`` is on, or will be on."""
    return shutil.disk_usage(existing(folder)).free


def spare_bytes(folder: Path) -> int:
    """Bytes that downloads leave free on that disk: 2 GiB, but at most a quarter of a small disk."""
    return min(2 * 2**30, shutil.disk_usage(existing(folder)).total // 4)
