"""How a failing start is repeated."""

from __future__ import annotations

from inference.dispatch.stations import Patience


def test_each_start_that_fails_is_waited_for_twice_as_long_as_the_one_before_up_to_a_limit() -> None:
    patience = Patience(first_backoff_s=1, longest_backoff_s=60)
    assert [patience.backoff_s(failed) for failed in (1, 2, 3, 6, 7, 100)] == [1, 2, 4, 32, 60, 60]


def test_a_device_may_fail_to_start_for_days() -> None:
    assert Patience().backoff_s(10_000) == Patience().longest_backoff_s
