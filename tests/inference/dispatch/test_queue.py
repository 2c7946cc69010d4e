"""The queue's policy: whose turn it is, who shares a batch, who stands where."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import bucket_for
from inference.dispatch.queue import Entry, FairQueue
from inference.errors import InferenceError, QueueFull, TooManyWaiting
from tests.inference.dispatch.orders import filled, order


def test_one_persons_orders_come_in_the_order_given() -> None:
    orders = [order("ann", steps=steps) for steps in (1, 2, 3)]
    queue = filled(*orders)
    assert [queue.take() for _ in range(3)] == [(entry,) for entry in orders]


def test_a_person_with_twenty_orders_delays_a_newcomer_by_one_batch_at_most() -> None:
    queue = filled(*(order("ann", steps=1 + i % 4) for i in range(20)), max_rows=4)
    queue.take()
    newcomer = order("bob", model="other")
    queue.add(newcomer)
    assert queue.take() == (newcomer,)


def test_three_people_take_turns_whatever_they_piled_up() -> None:
    queue = filled(*(order(owner, model=owner) for owner in ("ann", "ann", "ann", "bob", "bob", "cy")), max_rows=1)
    owners = [queue.take()[0].owner for _ in range(6)]
    assert owners == ["ann", "bob", "cy", "ann", "bob", "ann"]


def test_staying_away_saves_up_no_turns() -> None:
    queue = filled(*(order("ann", model="a") for _ in range(10)), max_rows=1)
    for _ in range(5):
        queue.take()
    for _ in range(3):
        queue.add(order("bob", model="b"))
    owners = [queue.take()[0].owner for _ in range(4)]
    assert owners.count("ann") >= 2


def test_what_was_drawn_while_nobody_else_wanted_anything_is_held_against_nobody() -> None:
    queue = FairQueue(max_rows=1)
    for _ in range(4):
        queue.add(order("ann", count=4, steps=50))
        queue.take()
    lone = order("ann")
    for entry in (order("bob"), order("cy"), lone):
        queue.add(entry)
    turns = []
    while lone not in turns:
        [turn] = queue.take()
        turns.append(turn)
        queue.add(order(turn.owner))
    assert len(turns) <= 3


def test_whoever_is_left_alone_by_an_order_taken_back_owes_nothing_either() -> None:
    lone = order("bob")
    queue = filled(order("ann", count=4, steps=50), lone, max_rows=1)
    queue.take()
    queue.remove(lone.job_id)
    again = order("ann")
    for entry in (again, order("bob"), order("cy")):
        queue.add(entry)
    assert queue.take() == (again,)


def test_an_order_taken_back_costs_no_turn() -> None:
    big, small = order("ann", count=4, steps=50), order("ann")
    queue = filled(big, small, order("bob"), max_rows=1)
    assert queue.remove(big.job_id) is big
    assert queue.take() == (small,)


def test_orders_of_different_people_with_one_key_share_a_batch() -> None:
    queue = filled(order("ann", count=4), order("bob", count=2), order("cy", count=2), order("dee"))
    batch = queue.take()
    assert [entry.owner for entry in batch] == ["ann", "bob", "cy"]


@pytest.mark.parametrize("other", [{"model": "n"}, {"steps": 5}, {"bucket": 4}, {"guided_bucket": 4}])
def test_orders_of_different_keys_do_not_share_a_batch(other: dict[str, object]) -> None:
    queue = filled(order("ann"), order("bob", **other))  # type: ignore[arg-type]
    assert len(queue.take()) == 1


def test_a_reroll_in_its_old_bucket_never_outgrows_it() -> None:
    queue = filled(order("ann", count=2, bucket=2), order("bob", count=1, bucket=2))
    assert [entry.owner for entry in queue.take()] == ["ann"]


def test_orders_share_a_batch_whatever_their_guidance() -> None:
    queue = filled(*(order(owner, guidance=guidance) for owner, guidance in (("ann", 1.0), ("bob", 1.5), ("cy", 2.0))))
    assert [entry.owner for entry in queue.take()] == ["ann", "bob", "cy"]


def test_a_guided_order_in_its_old_buckets_outgrows_neither() -> None:
    queue = filled(*(order(owner, bucket=8, guided_bucket=2) for owner in ("ann", "bob", "cy")))
    assert [entry.owner for entry in queue.take()] == ["ann", "bob"]


def test_an_unguided_order_is_not_set_apart_by_the_second_pass_it_did_without() -> None:
    queue = filled(order("ann", guidance=1.0, bucket=4, guided_bucket=0), order("bob", guidance=1.0, bucket=4))
    assert [entry.owner for entry in queue.take()] == ["ann", "bob"]


def test_an_order_given_back_comes_first_and_alone() -> None:
    queue = filled(order("ann"), order("bob"))
    taken = queue.take()
    queue.add(order("cy"))
    for entry in taken:
        queue.give_back(entry)
    assert queue.take() == (taken[0],)
    assert queue.take() == (taken[1],)
    assert queue.take()[0].owner == "cy"


def test_a_loaded_model_overtakes_only_so_often() -> None:
    strange = order("ann", model="strange")
    queue = filled(strange, *(order(f"u{i}", model="loaded", steps=1 + i) for i in range(5)), max_passed_over=2)
    leaders = [queue.take(frozenset({"loaded"}))[0].request.model for _ in range(3)]
    assert leaders == ["loaded", "loaded", "strange"]


def test_a_full_queue_and_a_full_line_are_refused() -> None:
    queue = FairQueue(limit=3, limit_per_owner=2)
    queue.add(order("ann"))
    queue.add(order("ann"))
    with pytest.raises(InferenceError) as refusal:
        queue.check_room("ann")
    assert refusal.value.failure == TooManyWaiting(limit=2)
    queue.add(order("bob"))
    with pytest.raises(InferenceError) as refusal:
        queue.check_room("cy", retry_after_s=4.0)
    assert refusal.value.failure == QueueFull(limit=3, retry_after_s=4.0)


def test_buckets_are_powers_of_two() -> None:
    assert [bucket_for(rows) for rows in (0, 1, 2, 3, 4, 5, 8, 9)] == [0, 1, 2, 4, 4, 8, 8, 16]


def arrived(*entries: Entry, at: Sequence[float], max_rows: int = 8) -> FairQueue:
    queue = FairQueue(max_rows=max_rows)
    for entry, now in zip(entries, at, strict=True):
        queue.add(entry, now=now)
    return queue


def test_two_that_share_a_batch_may_wait_a_gap_after_the_last_of_them() -> None:
    queue = arrived(order("ann"), order("bob"), order("cy", steps=8), at=(1.0, 2.0, 3.0))
    assert queue.company_until(gap_s=0.5) == 2.5


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (order("ann"),),
        (order("ann"), order("bob", steps=8)),
        (order("ann", count=4), order("bob", count=4)),
        (order("ann", count=3), order("bob", count=3), order("cy", count=4)),
        (order("ann", bucket=2), order("bob", bucket=2)),
    ],
)
def test_a_lone_order_and_a_full_batch_wait_for_nobody(entries: tuple[Entry, ...]) -> None:
    assert arrived(*entries, at=[1.0] * len(entries)).company_until(gap_s=0.5) is None


def test_an_order_given_back_waits_for_nobody() -> None:
    queue = arrived(order("ann"), order("bob"), at=(1.0, 1.0))
    for entry in queue.take():
        queue.give_back(entry)
    assert queue.company_until(gap_s=0.5) is None


def test_who_waits_for_company_is_decided_by_the_batch_that_would_be_taken() -> None:
    queue = arrived(order("ann", model="x"), order("bob", model="y"), order("cy", model="y"), at=(1.0, 2.0, 3.0))
    assert queue.company_until(gap_s=0.5) is None
    assert queue.company_until(frozenset({"y"}), gap_s=0.5) == 3.5


def test_an_order_whose_model_has_arrived_counts_as_come_now() -> None:
    queue = arrived(order("ann"), at=(1.0,))
    parked = order("bob")
    queue.park(parked)
    queue.unpark(parked.job_id, now=9.0)
    assert queue.company_until(gap_s=0.5) == 9.5


orders_of_a_crowd = st.lists(
    st.builds(
        order,
        st.sampled_from(["ann", "bob", "cy", "dee"]),
        model=st.sampled_from(["m", "n"]),
        count=st.integers(1, 4),
        steps=st.sampled_from([4, 8]),
    ),
    max_size=30,
)


@given(orders_of_a_crowd)
def test_every_order_is_taken_exactly_once_in_batches_that_fit(entries: list[Entry]) -> None:
    queue = filled(*entries)
    taken: list[Entry] = []
    while batch := queue.take():
        assert len({entry.key for entry in batch}) == 1
        assert sum(entry.request.count for entry in batch) <= 8
        taken.extend(batch)
    assert sorted(map(id, taken)) == sorted(map(id, entries))
    assert len(queue) == 0


@given(orders_of_a_crowd)
def test_the_first_planned_batch_is_the_one_that_is_taken(entries: list[Entry]) -> None:
    queue = filled(*entries)
    plan = queue.plan()
    assert sorted(id(entry) for batch in plan for entry in batch) == sorted(map(id, entries))
    assert queue.take() == (plan[0] if plan else ())


@given(orders_of_a_crowd, st.data())
def test_what_is_removed_is_never_taken(entries: list[Entry], data: st.DataObject) -> None:
    queue = filled(*entries)
    gone = data.draw(st.sampled_from(entries)) if entries else None
    if gone is not None:
        assert queue.remove(gone.job_id) is gone
        assert queue.remove(gone.job_id) is None
    while batch := queue.take():
        assert gone not in batch


def test_a_model_that_another_device_holds_waits_for_it_a_while() -> None:
    queue = FairQueue(max_passed_over=2)
    for number in range(4):
        queue.add(order(f"o{number}", model="x" if number == 0 else f"m{number}"))
    elsewhere = frozenset({"x"})
    led = [queue.take(frozenset(), elsewhere)[0].request.model for _turn in range(4)]
    assert led == ["m1", "m2", "x", "m3"]


def test_where_only_such_models_are_wanted_they_are_drawn_on_both() -> None:
    queue = FairQueue()
    queue.add(order("ann", model="x"))
    assert [e.request.model for e in queue.take(frozenset(), frozenset({"x"}))] == ["x"]
