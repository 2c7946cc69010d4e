"""What a free device gets next and when: the clock is a number here, and no worker behind a station ever starts."""

from __future__ import annotations

import uuid
from pathlib import Path

from inference.contract import ImageRequest
from inference.feeding import Feeding, Held
from inference.process import WorkerProcess, WorkerSpec
from inference.queue import Entry, FairQueue
from inference.stations import Station


def order(owner: str, *, model: str = "m", steps: int = 4) -> Entry:
    request = ImageRequest(prompt="an owl", model=model, seed=1, count=1, steps=steps, guidance=1, width=64, height=64)
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
