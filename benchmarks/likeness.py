"""Whether two pictures are the same but for rounding."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

AT_LEAST_DB = {"float32": 45.0, "float16": 32.0, "bfloat16": 28.0}
"""The PSNR in dB that our pictures must reach against the baseline's, by our precision; 255 is the peak. Random
networks amplify rounding more than trained ones do."""
FLAT = 4.0
"""Standard deviation below which a picture shows nothing, so that its similarity proves nothing."""


def psnr(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; 99 for identical pictures.

    Raises:
        ValueError: the sizes differ, or a picture is all of one colour.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"pictures of {ours.shape} and {theirs.shape}")
    if min(ours.std(), theirs.std()) < FLAT:
        raise ValueError("a picture shows nothing")
    error = float(np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2))
    return 99.0 if error == 0 else min(99.0, 20 * math.log10(255) - 10 * math.log10(error))
