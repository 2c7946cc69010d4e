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
"""Those of the bot's settings that say which models there are, where they lie and how they are had: they hold for these
commands, too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all is well, 1 if a picture differs or a model fails, 2 after a sentence on stderr."""
    _say_what_can_be_said()
    given: dict[str, str | None] = {}
    with contextlib.suppress(PermissionError):  # the bot's, which has its token in it
        given = read_env((Path.cwd(), ROOT))
    for name in SETTINGS:
        if value := (given.get(name) or "").strip():
            os.environ.setdefault(name, value)
    from inference.cli.program import run  # the hub's client looks into the environment when it is imported

    return run(argv)


def _say_what_can_be_said() -> None:
    """A character that a terminal does not have is shown as “?”, instead of ending the program half-way."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
