"""Both sides are measured in turns, and a row stops between two rounds when its time is over."""

from __future__ import annotations

import torch

from benchmarks.memory import Peak
from benchmarks.timing import Deadline, Sample, interleave

CPU = torch.device("cpu")


def test_sides_take_turns() -> None:
    heard: list[str] = []

    def side(name: str, seconds: float) -> float:
        heard.append(name)
        return seconds

    theirs, ours = interleave(
        lambda: side("theirs", 2.0), lambda: side("ours", 1.0), rounds=3, deadline=Deadline(60), peak=Peak(CPU)
    )
    assert heard == ["theirs", "ours"] * 3
    assert (theirs.values, ours.values) == ((2.0,) * 3, (1.0,) * 3)


def test_a_row_without_time_measures_once() -> None:
    theirs, ours = interleave(lambda: 2.0, lambda: 1.0, rounds=5, deadline=Deadline(0), peak=Peak(CPU))
    assert len(theirs.values) == len(ours.values) == 1


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
