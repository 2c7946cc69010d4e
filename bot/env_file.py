"""Keys of the file ``.env`` that are not settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import fields

from bot.settings import Settings


def warnings(given: Iterable[str]) -> Iterator[str]:
    """A sentence about every key that is not a setting, so that a typo does not go unnoticed."""
    known = [setting.name.upper() for setting in fields(Settings)]
    for key in given:
        if key not in known:
            alike = difflib.get_close_matches(key.upper(), known, n=1)
            meant = f" Did you mean {alike[0]}?" if alike else ""
            yield f"{key} in .env is not a setting and has no effect.{meant}"
