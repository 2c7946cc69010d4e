"""Two ways side by side: in turns, in the same process, so that both meet the same conditions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.memory import Peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Raw measurements, in seconds unless said otherwise, and the memory that the side took besides its weights."""

    values: tuple[float, ...]
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


class Deadline:
    """When a row has to end. It always measures once; after that it stops between two rounds."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def allows(self, seconds: float) -> bool:
        """Whether something that takes ``seconds`` still fits."""
        return time.monotonic() + seconds < self._ends


def interleave(
    theirs: Callable[[], float],
    ours: Callable[[], float],
    *,
    rounds: int,
    deadline: Deadline,
    peak: Peak,
    on_round: Callable[[Sample, Sample], None] = lambda theirs, ours: None,
) -> None:
    """Measure A-B-A-B. The sides return seconds per unit, timed by themselves, and are warmed up already.

    ``on_round`` is called after each round with what has been measured of both; there is at least one round.
    """
    sides = (theirs, ours)
    values: tuple[list[float], list[float]] = ([], [])
    peaks = [0, 0]
    for turn in range(rounds):
        began = time.monotonic()
        for index, side in enumerate(sides):
            with peak.watching(first=turn == 0, graphs=side is ours) as level:
                values[index].append(side())
            peaks[index] = max(peaks[index], level.above)
        a, b = (Sample(values=tuple(values[index]), peak_bytes=peaks[index]) for index in range(2))
        on_round(a, b)
        if not deadline.allows(time.monotonic() - began):
            break


def timed(act: Callable[[], object]) -> float:
    """Seconds that ``act`` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
