"""``python -m inference``: draw pictures, list, fetch and check the models, draw a picture again from its recipe."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from inference.env_file import read_env

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("CATALOG", "HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HTTPS_PROXY")
"""The bot settings that these commands share: which models exist, where they are stored and how they are downloaded."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 on success, 1 if a picture differs or a model fails, 2 for errors."""
    _say_what_can_be_said()
    given: dict[str, str | None] = {}
    with contextlib.suppress(PermissionError):  # only the bot's user may read it, as it holds the token
        given = read_env((Path.cwd(), ROOT))
    for name in SETTINGS:
        if value := (given.get(name) or "").strip():
            os.environ.setdefault(name, value)
    from inference.cli.program import run  # the hub's client reads the environment when it is imported

    return run(argv)


def _say_what_can_be_said() -> None:
    """Print characters that the terminal cannot show as “?”, instead of ending the program half-way."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
