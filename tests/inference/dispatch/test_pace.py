"""Estimates: proportional to the work, learnt per model, unknown until measured."""

from __future__ import annotations

import pytest

from inference.contract import Batch
from inference.dispatch.pace import Pace


def drawn(model: str = "m", *, bucket: int = 1, guided_bucket: int = 0, steps: int = 4) -> Batch:
    return Batch(
        model=model, adapters=(), steps=steps, width=64, height=64, bucket=bucket, guided_bucket=guided_bucket,
        rows=(),
    )  # fmt: skip


def expected(pace: Pace, *, guided: bool = False, bucket: int = 1, steps: int = 4, side: int = 64) -> float | None:
    return pace.draw_s(model="m", guided=guided, bucket=bucket, steps=steps, width=side, height=side)


def test_a_model_that_was_never_timed_has_no_estimate() -> None:
    assert expected(Pace()) is None


def test_twice_the_work_is_estimated_at_twice_the_time() -> None:
    pace = Pace()
    pace.record(drawn(), load_s=0.0, draw_s=1.0)
    assert expected(pace, bucket=2) == pytest.approx(2.0)
    assert expected(pace, steps=9) == pytest.approx(2.0)
    assert expected(pace, side=128) == pytest.approx(4.0)


def test_newer_measurements_weigh_more_than_older_ones() -> None:
    pace = Pace()
    for seconds in (1.0, *[3.0] * 10):
        pace.record(drawn(), load_s=0.0, draw_s=seconds)
    assert expected(pace) == pytest.approx(3.0, rel=0.05)


def test_guided_pictures_have_a_pace_of_their_own_once_one_was_timed() -> None:
    pace = Pace()
    pace.record(drawn(), load_s=0.0, draw_s=1.0)
    assert expected(pace, guided=True) == pytest.approx(1.0)
    pace.record(drawn(guided_bucket=1), load_s=0.0, draw_s=1.8)
    assert expected(pace, guided=True) == pytest.approx(1.8)
    assert expected(pace) == pytest.approx(1.0)


def test_loading_counts_only_when_a_model_was_really_loaded() -> None:
    pace = Pace()
    pace.record(drawn(), load_s=2.5, draw_s=1.0)
    pace.record(drawn(), load_s=0.00001, draw_s=1.0)
    assert pace.load_s("m") == 2.5
    assert pace.load_s("other") == 0.0
