"""What a free device gets next: the queue's order applied to what all the devices have in hand. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inference.queue import Entry, FairQueue
from inference.stations import Station


class Feeding:
    """Chooses for the devices of ``stations``, which may grow."""

    def __init__(self, *, queue: FairQueue, stations: Sequence[Station]) -> None:
        self._queue = queue
        self._stations = stations

    def next_orders(self, station: Station) -> tuple[Entry, ...]:
        """Take the orders of the next batch for ``station`` out of the queue; none if it is not its turn.

        An order drawn alone has the worker to itself to the end. An order is left to another free device that holds its
        model, or where none does, one that holds fewer models.
        """
        others = self._others(station)
        elsewhere = _held(others)
        leader = self._queue.peek(station.resident, elsewhere)
        if station.batch is not None or leader is None:
            return ()
        if station.jobs and (leader.alone or station.has_one_alone):
            return ()
        if not leader.alone and any(_suits_better(other, station, leader.request.model) for other in others):
            return ()
        return self._queue.take(station.resident, elsewhere)

    def _others(self, station: Station) -> list[Station]:
        return [other for other in self._stations if other is not station]


def _held(stations: Iterable[Station]) -> frozenset[str]:
    return frozenset[str]().union(*(station.holds for station in stations))


def _suits_better(other: Station, station: Station, model: str) -> bool:
    """Whether ``other`` is free and would have less to load for ``model``, or more room for it."""
    is_free = other.ready and other.batch is None and not other.has_one_alone
    if not is_free or model in station.resident:
        return False
    return model in other.resident or len(other.resident) < len(station.resident)
