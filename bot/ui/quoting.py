"""Quotes people's words in a code block, to be copied; nothing in them formats, links, mentions or breaks out of it."""

from __future__ import annotations

import re

from inference.errors import shortened

TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text around them, the rest of the message included."""


def quoted(text: str, limit: int) -> str:
    """At most ``limit`` characters of a text, in a code block."""
    words = " ".join(TURNING.sub("", text).replace("```", "").split())
    return f"```\n{shortened(words, limit)}\n```"
