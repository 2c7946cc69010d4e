"""Saving pictures: encoded as PNG with their recipe and written whole or not at all, in threads beside the drawing."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.contract import ALL_READ, Picture, Row, Unread
from inference.errors import DiskUnwritable, InferenceError
from inference.pictures.recipe import Recipe, png_texts
from inference.whole_files import draft_of, replace_file

COMPRESSION = 3
"""zlib's level; from here to 9, files get smaller by a few hundredths and take several times as long."""

LEAST_THREADS, MOST_THREADS = 2, 8
"""A GPU draws more pictures in a second than two threads encode."""


class PictureWriter:
    """Writes pictures to ``folder`` (created if missing) as ``<picture id>.png``, in threads of its own.

    Raises:
        InferenceError: with DiskUnwritable, at once if the folder cannot be created or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _require_writable(folder)
        threads = min(MOST_THREADS, max(LEAST_THREADS, (os.cpu_count() or 1) // 2))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")

    def write(
        self,
        row: Row,
        pixels: NDArray[np.uint8],
        recipe: Recipe,
        *,
        explicit: bool | None = None,
        unread: Unread = ALL_READ,
    ) -> Future[Picture]:
        """Save ``pixels`` (height, width, 3) as the picture of ``row``; ``explicit``: the safety check's verdict;
        ``unread``: what the model did not read.

        The future raises ``InferenceError(DiskUnwritable)`` if that fails; no part of a file is left then.
        """
        return self._pool.submit(self._write, row, pixels, recipe, explicit, unread)

    def close(self) -> None:
        """Wait for pending writes."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def path(self, picture_id: str) -> Path:
        """Where the picture of this id is, or will be."""
        return self._folder / f"{picture_id}.png"

    def _write(
        self, row: Row, pixels: NDArray[np.uint8], recipe: Recipe, explicit: bool | None, unread: Unread
    ) -> Picture:
        encoded = encode_png(pixels, recipe)
        try:
            replace_file(self.path(row.picture_id), encoded)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        height, width, _ = pixels.shape
        return Picture(
            id=row.picture_id,
            index=row.index,
            seed=row.seed,
            width=width,
            height=height,
            bucket=recipe.bucket,
            guided_bucket=recipe.guided_bucket,
            pixels_sha256=pixels_sha256(pixels.tobytes()),
            bytes=len(encoded),
            explicit=explicit,
            unread=unread,
            variation_seed=row.variation.seed if row.variation else None,
        )


def encode_png(pixels: NDArray[np.uint8], recipe: Recipe) -> bytes:
    """A PNG of ``pixels`` (height, width, 3) with ``recipe`` inside."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=png_texts(recipe), compress_level=COMPRESSION)
    return buffer.getvalue()


def pixels_sha256(rgb: bytes) -> str:
    """SHA-256 (hex) of the RGB bytes, row by row: equal for files that show the same picture."""
    return hashlib.sha256(rgb).hexdigest()


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = draft_of(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> InferenceError:
    return InferenceError(DiskUnwritable(path=str(folder), reason=error.strerror or str(error)))
