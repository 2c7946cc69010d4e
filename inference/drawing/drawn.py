"""The results of a batch, and of batches that had to be drawn in parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def ordered(drawn: Drawn, parts: list[list[int]]) -> Drawn:
    """The pictures of ``parts`` (row indices), drawn one part after the other, back in the order of the whole batch."""
    order = np.argsort(np.concatenate(parts))
    return replace(
        drawn,
        pixels=drawn.pixels[order],
        recipes=tuple(drawn.recipes[place] for place in order),
        verdicts=tuple(drawn.verdicts[place] for place in order),
        unread=tuple(drawn.unread[place] for place in order),
        faults=tuple(drawn.faults[place] for place in order),
    )


def joined(parts: list[Drawn]) -> Drawn:
    """Concatenate the pictures of batches that were drawn one after the other."""
    return Drawn(
        pixels=np.concatenate([part.pixels for part in parts]),
        recipes=tuple(recipe for part in parts for recipe in part.recipes),
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        unread=tuple(unread for part in parts for unread in part.unread),
        faults=tuple(fault for part in parts for fault in part.faults),
        load_s=sum(part.load_s for part in parts),
        draw_s=sum(part.draw_s for part in parts),
    )
