"""Reads settings from the file ``.env``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dotenv import dotenv_values


def read_env(folders: Iterable[Path]) -> dict[str, str | None]:
    """The settings in the ``.env`` of the first of ``folders`` that has one; empty if none has."""
    path = next((folder / ".env" for folder in folders if (folder / ".env").is_file()), None)
    return {} if path is None else dict(dotenv_values(path, encoding="utf-8-sig"))  # Windows editors may write a BOM
