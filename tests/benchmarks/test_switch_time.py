"""A switch is over when the device has copied, not when the engine says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.ours import Timed
from benchmarks.switch_time import longer_by, plain_seconds, switch_seconds

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def drawn(seconds: float, load_s: float) -> Timed:
    return Timed(pixels=np.zeros((1, 8, 8, 3), dtype=np.uint8), seconds=seconds, load_s=load_s)


def test_what_a_gpu_goes_on_copying_belongs_to_the_switch() -> None:
    assert switch_seconds(drawn(0.030, 0.001), 0.025, GPU) == pytest.approx(0.005)
    assert switch_seconds(drawn(0.030, 0.007), 0.025, GPU) == 0.007
    assert switch_seconds(drawn(0.030, 0.001), 0.025, CPU) == 0.001


def test_a_first_drawing_is_not_a_plain_one() -> None:
    seconds = iter([9.0, 1.0, 2.0, 3.0, 2.0])
    assert plain_seconds(lambda: drawn(next(seconds), 0.0)) == 2.0


def test_drawings_with_a_switch_are_compared_with_those_without() -> None:
    assert list(longer_by([drawn(3.0, 0.0), drawn(5.0, 0.0), drawn(4.0, 0.0)], 1.0).values()) == [3.0]
