"""Policy of the queue: whose turn it is, who shares a batch, who has which position. Pure: no clock, tasks or device.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996) with one flow per person: every person carries a
virtual time that grows by the cost of what was drawn for them, and whoever has the least is next. A newcomer starts at
the present virtual time, so a person with twenty orders waiting delays a person with one by a single batch at most, and
nobody saves up turns by staying away. Once the queue is empty, all are even again: what was drawn while nobody else
waited is not held against anybody. A cancelled order costs nothing, because only drawing is charged.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from inference.batching import BatchKey
from inference.contract import ImageRequest
from inference.errors import InferenceError, QueueFull, TooManyWaiting


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """An order in the queue. ``group`` is the community it comes from; ``alone`` keeps it out of shared batches;
    ``passed_over`` counts its overtakings; ``came_at`` is when it was queued, in seconds of the caller's clock."""

    job_id: str
    owner: str
    request: ImageRequest
    group: str | None = None
    alone: bool = False
    passed_over: int = 0
    came_at: float = 0.0
    key: BatchKey = field(init=False)
    arrival: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.key = BatchKey.of(self.request)

    @property
    def cost(self) -> float:
        """The work of drawing the order, in megapixel-steps."""
        request = self.request
        return request.width * request.height * request.steps * request.count / 1e6


class FairQueue:
    """The waiting orders.

    ``limit`` bounds all that wait, ``limit_per_owner`` what one person may have waiting, ``max_rows`` the pictures in a
    batch, and ``max_passed_over`` how often an order may be overtaken by one whose model is already loaded.
    """

    def __init__(
        self, *, limit: int = 200, limit_per_owner: int = 10, max_rows: int = 8, max_passed_over: int = 2
    ) -> None:
        self._limit = limit
        self._limit_per_owner = limit_per_owner
        self._max_rows = max_rows
        self._max_passed_over = max_passed_over
        self._waiting: dict[str, deque[Entry]] = {}
        self._returned: deque[Entry] = deque()
        self._parked: dict[str, Entry] = {}
        self._start_tags: dict[str, float] = {}
        self._virtual_time = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._parked) + len(self._returned) + sum(map(len, self._waiting.values()))

    @property
    def most_waiting(self) -> int:
        """How many orders one person may have waiting if nobody else waits."""
        return min(self._limit, self._limit_per_owner)

    def waiting_for(self, owner: str) -> int:
        """How many orders of this person wait."""
        parked = sum(entry.owner == owner for entry in self._parked.values())
        return parked + len(self._waiting.get(owner, ()))

    def waiting_in(self, group: str) -> int:
        """How many orders of this community wait."""
        lines = (self._parked.values(), *self._waiting.values())
        return sum(entry.group == group for line in lines for entry in line)

    def check_room(self, owner: str, *, orders: int = 1, retry_after_s: float | None = None) -> None:
        """Raise ``InferenceError`` (``QueueFull``, ``TooManyWaiting``) if this many more of ``owner`` are too many."""
        if self.waiting_for(owner) + orders > self._limit_per_owner:
            raise InferenceError(TooManyWaiting(limit=self._limit_per_owner, retry_after_s=retry_after_s))
        if len(self) + orders > self._limit:
            raise InferenceError(QueueFull(limit=self._limit, retry_after_s=retry_after_s))

    def add(self, entry: Entry, *, now: float = 0.0) -> None:
        """Queue an order in its owner's line. Limits are left to ``check_room``: resumed orders may exceed them."""
        entry.came_at = now
        self._arrivals += 1
        entry.arrival = self._arrivals
        line = self._waiting.setdefault(entry.owner, deque())
        if not line:
            self._start_tags[entry.owner] = max(self._start_tags.get(entry.owner, 0.0), self._virtual_time)
        line.append(entry)

    def park(self, entry: Entry) -> None:
        """Keep an order that cannot be drawn yet. It counts as waiting but has no position."""
        self._parked[entry.job_id] = entry

    def unpark(self, job_id: str, *, now: float = 0.0) -> None:
        """Queue a parked order as if it came now; does nothing if it was removed meanwhile."""
        entry = self._parked.pop(job_id, None)
        if entry is not None:
            self.add(entry, now=now)

    def give_back(self, entry: Entry) -> None:
        """Return an order that was already taken to the very front of the queue, to be drawn alone."""
        entry.alone = True
        self._returned.append(entry)

    def remove(self, job_id: str) -> Entry | None:
        """Remove an order; None if it does not wait here."""
        if job_id in self._parked:
            return self._parked.pop(job_id)
        for line in (self._returned, *self._waiting.values()):
            for entry in line:
                if entry.job_id == job_id:
                    line.remove(entry)
                    self._forget_the_absent()
                    return entry
        return None

    def in_order(self) -> Iterator[Entry]:
        """Every waiting order in fair order, regardless of which models are in memory; parked ones are left out."""
        yield from self._returned
        heads = [(self._start_tags[owner], line[0].arrival, owner, 0) for owner, line in self._waiting.items()]
        heapq.heapify(heads)
        while heads:
            tag, _, owner, index = heapq.heappop(heads)
            line = self._waiting[owner]
            yield line[index]
            if index + 1 < len(line):
                heapq.heappush(heads, (tag + line[index].cost, line[index + 1].arrival, owner, index + 1))

    def peek(self, resident: frozenset[str] = frozenset(), elsewhere: frozenset[str] = frozenset()) -> Entry | None:
        """The order that leads the next batch; see ``take``."""
        first = next(self.in_order(), None)
        if first is None or first.alone or first.request.model in resident:
            return first
        if first.passed_over >= self._max_passed_over:
            return first
        here = next((entry for entry in self.in_order() if entry.request.model in resident), None)
        if here is not None or first.request.model not in elsewhere:
            return here or first
        return next((entry for entry in self.in_order() if entry.request.model not in elsewhere), first)

    def take(
        self, resident: frozenset[str] = frozenset(), elsewhere: frozenset[str] = frozenset()
    ) -> tuple[Entry, ...]:
        """Remove and return the orders of the next batch; empty when nothing waits.

        The fair order decides who leads, except that a leader whose model is not among ``resident`` may be overtaken
        ``max_passed_over`` times: by one whose model is, or else, if another device holds the leader's model (it is
        among ``elsewhere``), by one whose model no device holds. Orders of equal key then join while there is room.
        """
        leader = self.peek(resident, elsewhere)
        if leader is None:
            return ()
        first = next(self.in_order())
        if first is not leader:
            first.passed_over += 1
        batch = self._riders(leader, list(self.in_order()))
        if not self._returned:
            self._virtual_time = max(self._virtual_time, self._start_tags[first.owner])
        for entry in batch:
            self._charge(entry)
        self._forget_the_absent()
        return batch

    def company_until(
        self, resident: frozenset[str] = frozenset(), elsewhere: frozenset[str] = frozenset(), *, gap_s: float
    ) -> float | None:
        """Until when the batch that ``take`` would return may be held because more orders with its key seem to be
        coming: ``gap_s`` after the last one came.

        None if there is nothing to wait for: the batch is full already, a lone order, or one that is drawn alone.
        """
        leader = self.peek(resident, elsewhere)
        if leader is None or leader.alone:
            return None
        line = [entry for entry in self.in_order() if entry.key == leader.key and not entry.alone]
        is_full = sum(entry.request.count for entry in line) >= leader.key.room(self._max_rows)
        return None if is_full or len(line) == 1 else max(entry.came_at for entry in line) + gap_s

    def plan(self) -> list[tuple[Entry, ...]]:
        """The batches to come, as they would be formed if nothing else arrived and no model were in memory.

        Each distinct key is scanned once, so the cost stays near-linear in the number of waiting orders.
        """
        lines: dict[BatchKey, deque[Entry]] = {}
        ordered = list(self.in_order())
        for entry in ordered:
            if not entry.alone:
                lines.setdefault(entry.key, deque()).append(entry)
        batches: list[tuple[Entry, ...]] = []
        placed: set[Entry] = set()
        for leader in ordered:
            if leader in placed:
                continue
            batch = (leader,) if leader.alone else self._fill(lines[leader.key])
            placed.update(batch)
            batches.append(batch)
        return batches

    def _riders(self, leader: Entry, ordered: list[Entry]) -> tuple[Entry, ...]:
        if leader.alone:
            return (leader,)
        others = (entry for entry in ordered if entry.key == leader.key and not entry.alone and entry is not leader)
        return self._fill(deque((leader, *others)))

    def _fill(self, line: deque[Entry]) -> tuple[Entry, ...]:
        """Take from the front of ``line`` what fits one batch; at least one order, however large."""
        room = line[0].key.room(self._max_rows)
        batch = [line.popleft()]
        room -= batch[0].request.count
        while line and line[0].request.count <= room:
            room -= line[0].request.count
            batch.append(line.popleft())
        return tuple(batch)

    def _charge(self, entry: Entry) -> None:
        if entry in self._returned:
            self._returned.remove(entry)
            return
        self._waiting[entry.owner].remove(entry)
        self._start_tags[entry.owner] += entry.cost

    def _forget_the_absent(self) -> None:
        """Drop empty lines, and the start tags of absent people that the virtual time has caught up with: everybody's,
        once nothing waits."""
        for owner in [owner for owner, line in self._waiting.items() if not line]:
            del self._waiting[owner]
        if not self._waiting and not self._returned:
            self._virtual_time = max((self._virtual_time, *self._start_tags.values()))
        for owner in [o for o, tag in self._start_tags.items() if tag <= self._virtual_time and o not in self._waiting]:
            del self._start_tags[owner]
