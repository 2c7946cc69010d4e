"""The file ``.env``, in which settings may stand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dotenv import dotenv_values


def read_env(folders: Iterable[Path]) -> dict[str, str | None]:
    """What the file in the first of ``folders`` that has one says."""
    path = next((folder / ".env" for folder in folders if (folder / ".env").is_file()), None)
    return {} if path is None else dict(dotenv_values(path, encoding="utf-8-sig"))  # as Windows' editors may write it
