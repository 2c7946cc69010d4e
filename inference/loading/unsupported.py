"""The error for everything that can be read but not drawn with."""

from __future__ import annotations


class UnsupportedError(ValueError):
    """Readable files of something that cannot be drawn with; the message says what."""
