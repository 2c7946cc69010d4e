"""What a free device gets next and when: the clock is a number here, and no worker behind a station ever starts."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from inference.batching import batch_of
from inference.contract import Adapter, ImageRequest
from inference.dispatch.feeding import Feeding, Held
from inference.dispatch.queue import Entry, FairQueue
from inference.dispatch.stations import Station
from inference.messages import Prefetch
from inference.processes.handle import WorkerProcess, WorkerSpec


def order(owner: str, *, model: str = "m", styles: tuple[str, ...] = ()) -> Entry:
    request = ImageRequest(
        prompt="an owl", model=model, seed=1, count=1, steps=4, guidance=1, width=64, height=64,
        adapters=tuple(Adapter(name=style) for style in styles),
    )  # fmt: skip
    return Entry(job_id=str(uuid.uuid4()), owner=owner, request=request)


def a_station() -> Station:
    station = Station(WorkerProcess(spec=WorkerSpec(catalog_path=Path("none"), pictures_dir=Path("none"))))
    station.ready = True
    return station


def test_a_hold_ends_a_gap_after_the_last_arrival() -> None:
    queue, station = FairQueue(), a_station()
    feeding = Feeding(queue=queue, stations=[station], wait_s=4.0)
    entries = order("ann"), order("bob")
    for entry in entries:
        queue.add(entry, now=10.0)
    assert feeding.next_orders(station, now=10.25) == Held(seconds=0.75)
    assert feeding.next_orders(station, now=11.0) == entries


def test_holds_between_two_batches_never_add_up_to_more_than_the_limit() -> None:
    queue, station = FairQueue(max_rows=64), a_station()
    feeding = Feeding(queue=queue, stations=[station], wait_s=4.0)
    queue.add(order("ann"), now=0.0)
    held, now = 0, 0.0
    company = order("bob")
    queue.add(company, now=now)
    while isinstance(feeding.next_orders(station, now=now), Held):  # company goes, and other company comes
        held += 1
        now += 0.5
        queue.remove(company.job_id)
        company = order(f"bob {held}")
        queue.add(company, now=now)
    assert now == 4.0
    queue.add(order("cy"), now=now)
    queue.add(order("dee"), now=now)
    assert isinstance(feeding.next_orders(station, now=now), Held)


def test_without_a_wait_nothing_is_ever_held() -> None:
    queue, station = FairQueue(), a_station()
    for owner in ("ann", "bob"):
        queue.add(order(owner), now=1.0)
    entries = Feeding(queue=queue, stations=[station], wait_s=0.0).next_orders(station, now=1.0)
    assert isinstance(entries, tuple)
    assert len(entries) == 2


def test_what_came_long_ago_is_not_held() -> None:
    queue, station = FairQueue(), a_station()
    for owner in ("ann", "bob"):
        queue.add(order(owner), now=1.0)
    entries = Feeding(queue=queue, stations=[station], wait_s=4.0).next_orders(station, now=2.0)
    assert isinstance(entries, tuple)


# -- what a worker prepares while it draws -----------------------------------------------------------------------------


def drawing(model: str = "x", *, resident: tuple[str, ...] = (), styles: tuple[str, ...] = ()) -> Station:
    """A station that is drawing with a model."""
    station = a_station()
    entry = order("eve", model=model, styles=styles)
    station.begin(batch_of({entry.job_id: entry.request}), (entry,))
    station.resident = frozenset(resident)
    return station


def told(queue: FairQueue, station: Station, *others: Station, ailing: frozenset[str] = frozenset()) -> Prefetch | None:
    return Feeding(queue=queue, stations=[station, *others], wait_s=0.0).to_prefetch(station, ailing=ailing)


def waiting(*entries: Entry) -> FairQueue:
    queue = FairQueue()
    for entry in entries:
        queue.add(entry)
    return queue


def prefetch(model: str, *styles: str) -> Prefetch:
    return Prefetch(model=model, adapters=tuple(Adapter(name=style) for style in styles))


def test_what_the_next_batch_needs_is_prefetched_with_its_styles() -> None:
    assert told(waiting(order("ann", model="y", styles=("flat",))), drawing("x")) == prefetch("y", "flat")
    assert told(waiting(order("ann", model="x", styles=("flat",))), drawing("x")) == prefetch("x", "flat")


@pytest.mark.parametrize("entries", [(), (order("ann", model="x"),), (order("ann", model="z"),)])
def test_what_is_there_already_is_not_prefetched(entries: tuple[Entry, ...]) -> None:
    assert told(waiting(*entries), drawing("x", resident=("z",))) is None


def test_who_draws_nothing_is_fed_and_not_told_to_prepare() -> None:
    assert told(waiting(order("ann", model="y")), a_station()) is None


def test_an_order_whose_model_is_there_comes_first_so_nothing_is_prefetched() -> None:
    assert told(waiting(order("ann", model="y"), order("bob", model="x")), drawing("x")) is None


def test_a_model_that_could_not_be_loaded_is_not_prefetched() -> None:
    assert told(waiting(order("ann", model="y")), drawing("x"), ailing=frozenset({"y"})) is None


def test_an_order_that_is_drawn_alone_has_nothing_prefetched_after_it() -> None:
    queue = FairQueue()
    queue.give_back(order("ann", model="y"))
    assert told(queue, drawing("x")) is None


def test_there_is_one_guess_for_each_batch_and_none_twice() -> None:
    station, queue = drawing("x"), waiting(order("ann", model="y"))
    station.prefetch(prefetch("y"))
    queue.remove(next(queue.in_order()).job_id)
    queue.add(order("bob", model="z"))
    assert told(queue, station) is None
    begin(station, order("eve", model="w"))
    assert told(queue, station) == prefetch("z")
    station.prefetch(prefetch("z"))
    begin(station, order("eve", model="w"))
    assert told(queue, station) is None
    begin(station, *queue.take())
    queue.add(order("cy", model="x"))
    assert told(queue, station) == prefetch("x")


def begin(station: Station, entry: Entry) -> None:
    station.release()
    station.begin(batch_of({entry.job_id: entry.request}), (entry,))


def test_what_another_device_will_draw_is_not_prefetched() -> None:
    queue = waiting(order("ann", model="y"))
    assert told(queue, drawing("x"), a_station()) is None
    assert told(queue, drawing("x"), drawing("z", resident=("y",))) is None
    assert told(queue, drawing("x"), drawing("y")) is None
    prefetching = drawing("z")
    prefetching.prefetch(prefetch("y"))
    assert told(queue, drawing("x"), prefetching) is None
    assert told(queue, drawing("x"), drawing("z")) == prefetch("y")


def test_a_device_that_starts_counts_as_free_and_one_that_cannot_does_not() -> None:
    queue, other = waiting(order("ann", model="y")), a_station()
    other.ready = False
    assert told(queue, drawing("x"), other) is None
    other.failed_starts = 1
    assert told(queue, drawing("x"), other) == prefetch("y")


def test_two_busy_devices_prepare_for_two_different_orders() -> None:
    queue = waiting(order("ann", model="y"), order("bob", model="z"))
    first, second = drawing("v"), drawing("w")
    ahead = told(queue, first, second)
    assert ahead == prefetch("y")
    first.prefetch(ahead)
    assert told(queue, second, first) == prefetch("z")


def test_a_dead_worker_has_prefetched_nothing() -> None:
    station = drawing("x")
    station.prefetch(prefetch("y"))
    station.clear()
    assert station.holds == frozenset()
