"""What came of a batch, and of batches that had to be drawn in parts."""

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
    """A batch's pictures. ``pixels``: uint8, (rows, height, width, 3); ``recipes``: what redraws each of them;
    ``verdicts``: what the safety check says of each, None where nobody checked; ``unread``: the ends of their
    prompts that the model's text encoders did not read; ``faults``: why one is no picture after all, None where it is.

    ``load_s`` are the seconds that bringing the model up took (0 if it was there), ``draw_s`` those from prompt to
    pixels.
    """

    pixels: NDArray[np.uint8]
    recipes: tuple[Recipe, ...]
    verdicts: tuple[Verdict | None, ...]
    unread: tuple[Unread, ...]
    faults: tuple[Failure | None, ...]
    load_s: float
    draw_s: float


def ordered(drawn: Drawn, parts: list[list[int]]) -> Drawn:
    """The pictures of ``parts``, which are one after the other, by their places in the whole."""
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
    """The pictures of batches that were drawn one after the other."""
    return Drawn(
        pixels=np.concatenate([part.pixels for part in parts]),
        recipes=tuple(recipe for part in parts for recipe in part.recipes),
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        unread=tuple(unread for part in parts for unread in part.unread),
        faults=tuple(fault for part in parts for fault in part.faults),
        load_s=sum(part.load_s for part in parts),
        draw_s=sum(part.draw_s for part in parts),
    )
