"""What the queue promises, whatever people do: nobody starves, nothing is lost or doubled, turns come in order.

Orders come, are parked, taken back, drawn, and given back after a worker's death, in any order, with any models in
memory here or elsewhere; after every step the promises are looked at.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference.batching import batch_of
from inference.dispatch.queue import Entry, FairQueue
from tests.inference.dispatch.orders import order

MODELS = st.frozensets(st.sampled_from(["x", "y", "z"]))
BUCKETS = st.sampled_from([(None, None), (None, None), (4, None), (8, None), (8, 0), (8, 4), (8, 8)])
ORDERS = st.builds(
    lambda owner, model, count, steps, guidance, buckets: order(
        owner, model=model, count=count, steps=steps, guidance=guidance, bucket=buckets[0], guided_bucket=buckets[1]
    ),
    st.sampled_from(["ann", "bob", "cy", "dee"]),
    st.sampled_from(["x", "y", "z"]),
    st.integers(1, 4),
    st.sampled_from([2, 4]),
    st.sampled_from([1.0, 1.5]),
    BUCKETS,
)
MAX_ROWS = 8


class Evening(RuleBasedStateMachine):
    """A queue, and beside it what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, Entry] = {}
        self.parked: dict[str, Entry] = {}
        self.in_hand: list[Entry] = []
        self.ended: Counter[str] = Counter()
        self.overtaken: Counter[str] = Counter()
        self.turns_left: dict[str, int] = {}
        self.present = 0.0

    @initialize(max_passed_over=st.integers(0, 3))
    def open(self, max_passed_over: int) -> None:
        self.max_passed_over = max_passed_over
        self.queue = FairQueue(max_rows=MAX_ROWS, max_passed_over=max_passed_over)

    # -- what people do ------------------------------------------------------------------------------------------------

    @rule(entry=ORDERS)
    def come(self, entry: Entry) -> None:
        self.queue.add(entry)
        self._has_come(entry)

    @rule(owner=st.sampled_from(["ann", "bob"]), steps=st.permutations([1, 2, 3, 4, 5, 6]))
    def come_eagerly(self, owner: str, steps: list[int]) -> None:
        """With orders that share no batch."""
        for entry in (order(owner, model="x", steps=number) for number in steps):
            self.queue.add(entry)
            self._has_come(entry)

    @rule(entry=ORDERS)
    def come_without_a_model(self, entry: Entry) -> None:
        self.queue.park(entry)
        self.parked[entry.job_id] = entry

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def model_arrives(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.parked)))
        self.queue.unpark(job_id)
        self._has_come(self.parked.pop(job_id))

    def _has_come(self, entry: Entry) -> None:
        """Who has had nothing lately is drawn for after one turn, at most, of each who waits already; every turn may
        be overtaken so often."""
        was_away = entry.owner not in self._owners()
        self.waiting[entry.job_id] = entry
        if was_away and self.queue._start_tags[entry.owner] == self.queue._virtual_time:
            self.turns_left[entry.owner] = len(self._owners()) * (self.max_passed_over + 1)

    def _owners(self) -> set[str]:
        return {entry.owner for entry in self.waiting.values() if not entry.alone}

    @precondition(lambda self: self.waiting or self.parked)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([*self.waiting, *self.parked]))
        entry = self.waiting.pop(job_id, None) or self.parked.pop(job_id)
        again = self.max_passed_over + 1  # for the order that may stand in its place
        here = self._owners()
        self.turns_left = {owner: turns + again for owner, turns in self.turns_left.items() if owner in here}
        assert self.queue.remove(job_id) is entry
        assert self.queue.remove(job_id) is None
        self.ended[job_id] += 1

    # -- what devices do -----------------------------------------------------------------------------------------------

    @rule(resident=MODELS, elsewhere=MODELS, batches=st.integers(1, 5))
    def draw_some(self, resident: frozenset[str], elsewhere: frozenset[str], batches: int) -> None:
        for _ in range(batches):
            self._draw(resident, elsewhere)
            self.nobody_starves()

    def _draw(self, resident: frozenset[str], elsewhere: frozenset[str]) -> None:
        first = next(self.queue.in_order(), None)
        batch = self.queue.take(resident, elsewhere)
        assert bool(batch) == (first is not None)
        if first is None:
            return
        leader = batch[0]
        if leader is not first:
            self._is_allowed(first, leader, resident, elsewhere)
        self._is_one_batch(batch)
        self._keeps_everybodys_order(batch)
        for entry in batch:
            del self.waiting[entry.job_id]
            self.in_hand.append(entry)
        if not leader.alone:
            served = {entry.owner for entry in batch}
            self.turns_left = {owner: turns - 1 for owner, turns in self.turns_left.items() if owner not in served}

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def end_or_fail(self, data: st.DataObject) -> None:
        for entry in self.in_hand:
            if data.draw(st.booleans()):
                self.ended[entry.job_id] += 1
            else:
                self.queue.give_back(entry)
                self.waiting[entry.job_id] = entry
        self.in_hand = []

    @rule(resident=MODELS, elsewhere=MODELS)
    def look_for_company(self, resident: frozenset[str], elsewhere: frozenset[str]) -> None:
        leader = self.queue.peek(resident, elsewhere)
        until = self.queue.company_until(resident, elsewhere, gap_s=1.0)
        like_it = [entry for entry in self.waiting.values() if leader and entry.key == leader.key and not entry.alone]
        rows = sum(entry.request.count for entry in like_it)
        may = leader is not None and not leader.alone and len(like_it) > 1 and rows < leader.key.room(MAX_ROWS)
        assert until == (1.0 if may else None)

    # -- what is promised ----------------------------------------------------------------------------------------------

    def _is_allowed(self, first: Entry, leader: Entry, resident: frozenset[str], elsewhere: frozenset[str]) -> None:
        """Only who needs a model that is not here is overtaken, and not too often."""
        self.overtaken[first.job_id] += 1
        assert self.overtaken[first.job_id] <= self.max_passed_over
        assert not first.alone
        assert first.request.model not in resident
        nowhere = first.request.model in elsewhere and leader.request.model not in elsewhere
        assert leader.request.model in resident or nowhere

    def _is_one_batch(self, batch: tuple[Entry, ...]) -> None:
        assert len({entry.key for entry in batch}) == 1
        assert len(batch) == 1 or not any(entry.alone for entry in batch)
        drawn = batch_of({entry.job_id: entry.request for entry in batch})
        assert len(batch) == 1 or len(drawn.rows) <= MAX_ROWS
        assert len(drawn.rows) <= drawn.bucket
        assert sum(row.guided for row in drawn.rows) <= drawn.guided_bucket <= drawn.bucket
        for request in (entry.request for entry in batch):
            assert request.bucket in (None, drawn.bucket)
            assert request.guidance == 1.0 or request.guided_bucket in (None, 0, drawn.guided_bucket)

    def _keeps_everybodys_order(self, batch: tuple[Entry, ...]) -> None:
        """Orders of one person that could share a batch are drawn as they came."""
        left = [entry for entry in self.waiting.values() if entry not in batch and not entry.alone]
        for entry in (entry for entry in batch if not entry.alone):
            earlier = [other for other in left if other.arrival < entry.arrival and other.owner == entry.owner]
            assert entry.key not in {other.key for other in earlier}
        assert [e.arrival for e in batch if e.owner == batch[0].owner] == sorted(
            e.arrival for e in batch if e.owner == batch[0].owner
        )

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        in_order = [entry.job_id for entry in self.queue.in_order()]
        assert sorted(in_order) == sorted(self.waiting)
        assert len(self.queue) == len(self.waiting) + len(self.parked)
        planned = [entry.job_id for batch in self.queue.plan() for entry in batch]
        assert sorted(planned) == sorted(in_order)
        assert set(self.ended.values()) <= {1}

    @invariant()
    def nobody_starves(self) -> None:
        assert all(turns > 0 for turns in self.turns_left.values())

    @invariant()
    def the_present_passes_nobody_who_waits_and_never_returns(self) -> None:
        assert all(self.queue._start_tags[owner] >= self.queue._virtual_time for owner in self._owners())
        assert self.queue._virtual_time >= self.present
        self.present = self.queue._virtual_time

    @invariant()
    def nobody_owes_anything_once_nothing_waits(self) -> None:
        assert self.waiting or not self.queue._start_tags


TestEvening = Evening.TestCase
TestEvening.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
