"""How long a switch took: a GPU may still be copying when the engine says that the model is up."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from benchmarks.ours import Timed

DRAWINGS = 5
"""Drawings with the same model in a row: the last ones show what a drawing without a switch takes."""


def plain_seconds(draw: Callable[[], Timed]) -> float:
    """What ``draw`` takes without a switch before it."""
    return statistics.median([draw().seconds for _ in range(DRAWINGS)][1:])


def switch_seconds(switched: Timed, plain_s: float, device: torch.device) -> float:
    """What the switch before a drawing took; on a GPU the whole drawing tells, unless the loading alone took longer."""
    if device.type == "cpu":
        return switched.load_s
    return max(switched.load_s, switched.seconds - plain_s)


def longer_by(switched: Sequence[Timed], plain_s: float) -> dict[str, float]:
    """By how much drawings with a switch before them took longer than those without, as a note; may be below 0, within
    the noise."""
    extra = statistics.median(drawn.seconds for drawn in switched) - plain_s
    return {"a drawing after a switch took longer by, s": extra}
