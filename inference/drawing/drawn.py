"""What drawing a batch results in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.contract import Unread
from inference.errors import Failure
from inference.loading.checker import Verdict
from inference.pictures.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A batch's pictures. ``pixels``: (rows, height, width, 3) in uint8; ``recipes``: how to redraw each of them;
    ``verdicts``: of the safety check, None where it was not run; ``unread``: the ends of their prompts that the text
    encoders did not read; ``faults``: why a picture is unusable, None where it is fine.

    ``load_s``: seconds spent loading the model (0 if it was in memory); ``draw_s``: seconds from prompt to pixels.
    """

    pixels: NDArray[np.uint8]
    recipes: tuple[Recipe, ...]
    verdicts: tuple[Verdict | None, ...]
    unread: tuple[Unread, ...]
    faults: tuple[Failure | None, ...]
    load_s: float
    draw_s: float
