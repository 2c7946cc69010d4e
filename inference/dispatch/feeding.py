"""What a device gets next, and what it can prefetch: the queue's order applied to what all devices have in hand.

Sends nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from inference.dispatch.queue import Entry, FairQueue
from inference.dispatch.stations import Station
from inference.messages import Prefetch

GAP = 0.25
"""Share of the longest hold after which no more orders are expected if none has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """There is a batch, but more orders may join it: look again in ``seconds``."""

    seconds: float


class Feeding:
    """Chooses for the devices of ``stations``, which may grow. A batch of several orders that is not full is held, for
    at most ``wait_s``, while more of its kind keep coming."""

    def __init__(self, *, queue: FairQueue, stations: Sequence[Station], wait_s: float) -> None:
        self._queue = queue
        self._stations = stations
        self._wait_s = wait_s

    def next_orders(self, station: Station, *, now: float) -> tuple[Entry, ...] | Held:
        """Take the orders of the next batch for ``station`` out of the queue; none if it is not its turn.

        An order that is drawn alone has the worker to itself until it ends. An order is left to another free device
        that holds its model or, if none does, to one that holds fewer models.
        """
        elsewhere = _held(self._others(station))
        if not self._is_its_turn(station, elsewhere):
            station.held_since = None
            return ()
        held_s = self._held_s(station, elsewhere, now)
        if held_s > 0:
            return Held(seconds=held_s)
        station.held_since = None
        return self._queue.take(station.resident, elsewhere)

    def to_prefetch(self, station: Station, *, ailing: Container[str]) -> Prefetch | None:
        """What the worker of ``station`` should load while it draws: the model that its next batch will probably need.

        It is a guess, since more orders may arrive meanwhile, so there is one per batch. None if another device is
        free, starting, or holds the model, since that one may draw the order first; none for a model that is known to
        be ``ailing``, and none for an order that is drawn alone because it may have caused a worker's death.
        """
        others, batch = self._others(station), station.batch
        if batch is None or station.is_told:
            return None
        leader = self._queue.peek(station.holds, _held(others))
        if leader is None or leader.alone:
            return None
        ahead = Prefetch(model=leader.request.model, adapters=leader.request.adapters)
        is_there = ahead.model in station.resident or ahead == Prefetch(model=batch.model, adapters=batch.adapters)
        if is_there or ahead == station.prefetching or ahead.model in ailing:
            return None
        if any(ahead.model in other.holds or _is_or_will_be_free(other) for other in others):
            return None
        return ahead

    def _is_its_turn(self, station: Station, elsewhere: frozenset[str]) -> bool:
        leader = self._queue.peek(station.resident, elsewhere)
        if station.batch is not None or leader is None:
            return False
        if station.jobs and (leader.alone or station.has_one_alone):
            return False
        model = leader.request.model
        return leader.alone or not any(_suits_better(other, station, model) for other in self._others(station))

    def _held_s(self, station: Station, elsewhere: frozenset[str], now: float) -> float:
        """How many more seconds the next batch is held. All holds between two batches share one limit, so that nobody
        waits longer because orders join and leave."""
        until = self._queue.company_until(station.resident, elsewhere, gap_s=self._wait_s * GAP)
        if until is None:
            return 0.0
        if station.held_since is None:
            station.held_since = now
        return min(until, station.held_since + self._wait_s) - now

    def _others(self, station: Station) -> list[Station]:
        return [other for other in self._stations if other is not station]


def _held(stations: Iterable[Station]) -> frozenset[str]:
    return frozenset[str]().union(*(station.holds for station in stations))


def _is_or_will_be_free(station: Station) -> bool:
    """Whether it waits for orders, or is starting without a failed start so far."""
    return station.batch is None and (station.ready or station.failed_starts == 0)


def _suits_better(other: Station, station: Station, model: str) -> bool:
    """Whether ``other`` is free and would have less to load for ``model``, or more room for it."""
    is_free = other.ready and other.batch is None and not other.has_one_alone
    if not is_free or model in station.resident:
        return False
    return model in other.resident or len(other.resident) < len(station.resident)
