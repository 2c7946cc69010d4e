"""Both sides are measured in turns, and a row stops between two rounds when its time is over."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.memory import Peak
from benchmarks.timing import Deadline, Sample, interleave

CPU = torch.device("cpu")


def test_sides_take_turns() -> None:
    heard: list[str] = []

    def side(name: str, seconds: float) -> float:
        heard.append(name)
        return seconds

    rounds = measured(lambda: side("theirs", 2.0), lambda: side("ours", 1.0), Deadline(60))
    assert heard == ["theirs", "ours"] * 3
    assert [(theirs.values, ours.values) for theirs, ours in rounds] == [
        ((2.0,) * count, (1.0,) * count) for count in (1, 2, 3)
    ]


def test_a_row_without_time_measures_once() -> None:
    assert len(measured(lambda: 2.0, lambda: 1.0, Deadline(0))) == 1


def measured(theirs: Callable[[], float], ours: Callable[[], float], deadline: Deadline) -> list[tuple[Sample, Sample]]:
    """What there is after each of three rounds."""
    heard: list[tuple[Sample, Sample]] = []
    interleave(theirs, ours, rounds=3, deadline=deadline, peak=Peak(CPU), on_round=lambda a, b: heard.append((a, b)))
    return heard


def test_a_sample_has_its_middle_and_its_ends() -> None:
    sample = Sample(values=(3.0, 1.0, 2.0))
    assert (sample.low, sample.median, sample.high) == (1.0, 2.0, 3.0)


def test_memory_that_was_taken_and_given_back_is_seen() -> None:
    peak = Peak(CPU)
    with peak.watching() as level:
        torch.ones(64 * 2**20)
    if level.before:  # only Linux tells
        assert 200 * 2**20 < level.above < 400 * 2**20
        assert peak.most >= level.most
