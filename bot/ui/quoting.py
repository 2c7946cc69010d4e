"""Somebody's words in a block of their own, to be copied; nothing in them formats, links, mentions or leaves it."""

from __future__ import annotations

import re

from inference.errors import shortened

TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text around them, the rest of the message included."""


def quoted(text: str, limit: int) -> str:
    """At most ``limit`` characters of a text, and the block around them."""
    words = " ".join(TURNING.sub("", text).replace("```", "").split())
    return f"```\n{shortened(words, limit)}\n```"
