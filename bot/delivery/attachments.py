"""A picture as a file that Discord takes: the original if it fits, else the least lossy form that does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

QUALITIES = (95, 85, 75, 60, 40)
"""WebP qualities, tried in turn once lossless forms are too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file's name and content."""

    name: str
    content: bytes


def attachment(path: Path, *, limit: int) -> Attachment:
    """The picture at ``path`` in at most ``limit`` bytes: PNG, lossless WebP, WebP of falling quality, smaller WebP.

    Blocks; call it in a thread. Raises ``FileNotFoundError``.
    """
    original = path.read_bytes()
    if len(original) <= limit:
        return Attachment(name=path.name, content=original)
    with Image.open(io.BytesIO(original)) as picture:
        picture.load()
        content = next(fitting for encode in _forms(picture) if len(fitting := encode()) <= limit)
    return Attachment(name=f"{path.stem}.webp", content=content)


def _forms(picture: Image.Image) -> Iterator[Callable[[], bytes]]:
    yield lambda: _webp(picture, lossless=True)
    for quality in QUALITIES:
        yield lambda quality=quality: _webp(picture, quality=quality)  # type: ignore[misc]
    smaller = picture
    while min(smaller.size) > 1:
        smaller = smaller.resize((max(1, smaller.width // 2), max(1, smaller.height // 2)))
        yield lambda smaller=smaller: _webp(smaller, quality=QUALITIES[-1])  # type: ignore[misc]


def _webp(picture: Image.Image, *, quality: int = 100, lossless: bool = False) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=quality, lossless=lossless)
    return buffer.getvalue()
