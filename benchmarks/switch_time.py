"""How long a switch took: a GPU may still be copying when the engine reports that the model is loaded."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from benchmarks.ours import Timed

DRAWINGS = 5
"""Consecutive drawings with the same model: the last ones show how long a drawing without a switch takes."""


def plain_seconds(draw: Callable[[], Timed]) -> float:
    """How long ``draw`` takes without a switch before it."""
    return statistics.median([draw().seconds for _ in range(DRAWINGS)][1:])


def switch_seconds(switched: Timed, plain_s: float, device: torch.device) -> float:
    """How long the switch before a drawing took; on a GPU from the whole drawing's time, unless loading took longer."""
    if device.type == "cpu":
        return switched.load_s
    return max(switched.load_s, switched.seconds - plain_s)


def longer_by(switched: Sequence[Timed], plain_s: float) -> dict[str, float]:
    """A note on how much longer drawings after a switch took than those without one; may be below 0, within the
    noise."""
    extra = statistics.median(drawn.seconds for drawn in switched) - plain_s
    return {"a drawing after a switch took longer by, s": extra}
