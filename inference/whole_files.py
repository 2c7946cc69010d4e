"""Atomic writes: a file is written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

UNFINISHED = ".part"
"""Suffix of a file that is still being written, or was left behind by a killed process."""


def replace_file(path: Path, content: bytes) -> None:
    """Write ``path`` so that a reader finds either the old file or the whole new one, even after a power cut.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    draft = draft_of(path)
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def draft_of(path: Path) -> Path:
    """A hidden, unique name beside ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
