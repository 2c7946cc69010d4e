"""Contact sheets: many pictures in one, for viewing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def pixels(pictures: Tensor) -> NDArray[np.uint8]:
    """8-bit (N, H, W, 3) of ``pictures`` (N, 3, H, W) in 0..1."""
    scaled: NDArray[np.uint8] = (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return scaled


def save(pictures: NDArray[np.uint8], path: Path, columns: int = 8) -> None:
    """Write ``pictures`` (N, H, W, 3) row by row into one PNG."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, optimize=True)
