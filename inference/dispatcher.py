"""The async queue and the task that drains it: next batch to the worker, its messages back to those who ordered.

One draining task per worker. Every job is settled in exactly one place (``_settle``), which looks whether it is
settled already: a cancelled order whose worker then crashes must not be answered twice. A failed request and a dead
worker are different things: the first is answered, after the second the job runs once more, alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from inference.contract import (
    Batch,
    BatchDrawn,
    BatchFailed,
    BatchProgress,
    BatchStopped,
    Cancelled,
    Downloading,
    Draw,
    Failed,
    Finished,
    FromWorker,
    ImageRequest,
    JobFailed,
    JobSaved,
    Outcome,
    Phase,
    Preview,
    Progress,
    Ready,
    Retrying,
    Running,
    Standing,
    StartFailed,
    Stop,
)
from inference.errors import Failure, InferenceError, WeightsUnreadable, WorkerUnavailable, describe
from inference.fetching import Fetching
from inference.orders import batch_of
from inference.outlook import Outlook
from inference.pace import Pace
from inference.process import WorkerGone, WorkerProcess
from inference.queue import Entry, FairQueue
from inference.ticket import Ticket

log = logging.getLogger("inference.dispatcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a silent worker is waited for before it is ended, and how a failing start is repeated."""

    load_timeout_s: float = 600.0
    step_timeout_s: float = 120.0
    first_backoff_s: float = 1.0
    longest_backoff_s: float = 60.0
    starts_before_giving_up: int = 3


@dataclass(slots=True, eq=False)
class _Station:
    """A worker with what it has in hand: a batch on the device, and jobs whose pictures are being saved."""

    worker: WorkerProcess
    batch: Batch | None = None
    phase: Phase = Phase.LOADING
    batch_since: float = 0.0
    heard_at: float = 0.0
    jobs: dict[str, Entry] = field(default_factory=dict)
    previews: dict[tuple[str, int], Preview] = field(default_factory=dict)
    resident: frozenset[str] = frozenset()
    ready: bool = False
    failed_starts: int = 0

    @property
    def holds(self) -> frozenset[str]:
        """The models that are in its memory, or on their way there."""
        return self.resident | ({self.batch.model} if self.batch else frozenset())

    def on_device(self) -> list[Entry]:
        ids = {row.job_id for row in self.batch.rows} if self.batch else set()
        return [entry for job_id, entry in self.jobs.items() if job_id in ids]

    def running(self, job_id: str, progress: Progress) -> Running:
        """What a job hears of the batch's progress: with the latest previews of its own pictures."""
        own = [preview for preview in self.previews.values() if preview.job_id == job_id]
        return Running(progress=replace(progress, previews=tuple(sorted(own, key=lambda preview: preview.index))))


class Dispatcher:
    """Takes orders, keeps them in fair order, and feeds the workers. Lives on one event loop.

    ``hire`` makes a worker for a device by name: for those that the first worker reports beside its own. ``fetching``
    brings models here; without it, orders for those that are missing fail when they are drawn.
    """

    def __init__(
        self,
        *,
        workers: Sequence[WorkerProcess],
        queue: FairQueue,
        patience: Patience | None = None,
        hire: Callable[[str], WorkerProcess] | None = None,
        fetching: Fetching | None = None,
    ) -> None:
        self._stations = [_Station(worker) for worker in workers]
        self._hire = hire
        self._fetching = fetching
        self._drains: asyncio.TaskGroup | None = None
        self._queue = queue
        self._pace = Pace()
        self._outlook = Outlook(queue=queue, pace=self._pace, devices=self._stations)
        self._patience = patience or Patience()
        self._tickets: dict[str, Ticket] = {}
        self._attempts: dict[str, int] = {}
        self._ailing: dict[str, Failure] = {}

    def __len__(self) -> int:
        """How many orders wait."""
        return len(self._queue)

    @property
    def resident(self) -> frozenset[str]:
        """The models that are in some device's memory."""
        return frozenset[str]().union(*(station.resident for station in self._stations))

    @property
    def ailing(self) -> Mapping[str, Failure]:
        """Why a model could not be loaded the last time, by its name."""
        return self._ailing

    def waiting_for(self, owner: str) -> int:
        """How many orders of this person wait."""
        return self._queue.waiting_for(owner)

    def waiting_in(self, group: str) -> int:
        """How many orders of this community wait."""
        return self._queue.waiting_in(group)

    def standing(self) -> dict[str, Standing]:
        """Where every open order stands, by job id."""
        open_ones = ((job_id, ticket.latest) for job_id, ticket in self._tickets.items())
        return {job_id: event for job_id, event in open_ones if isinstance(event, Standing)}

    def seconds_until_room(self) -> float | None:
        """Until the next batch is drawn; None where that has never been timed."""
        return self._outlook.seconds_until_room()

    # -- taking orders -------------------------------------------------------------------------------------------------

    def check_room(self, owner: str, *, orders: int = 1) -> None:
        """Raise ``InferenceError`` if so many more orders of this person would be refused now."""
        self._queue.check_room(owner, orders=orders, retry_after_s=self.seconds_until_room())

    def to_fetch(self, request: ImageRequest) -> tuple[str, ...]:
        """What of an order has to be downloaded first; raises ``InferenceError`` where that is switched off."""
        return () if self._fetching is None else self._fetching.needs(request)

    def submit(
        self, *, job_id: str, owner: str, request: ImageRequest, group: str | None = None, resumed: bool = False
    ) -> Ticket:
        """Queue an order of a person in a community (``group``); raises ``InferenceError`` like ``check_room``
        and ``to_fetch``.

        A ``resumed`` order was accepted before a restart and is not turned away now.
        """
        if not resumed:
            self.check_room(owner)
            self.to_fetch(request)
        ticket = self._tickets[job_id] = Ticket(job_id)
        self._attempts[job_id] = 0
        self._take_in(Entry(job_id=job_id, owner=owner, group=group, request=request))
        return ticket

    def _take_in(self, entry: Entry) -> None:
        """Into the queue, or where its model has to be downloaded first, beside it."""
        try:
            missing = self.to_fetch(entry.request)
        except InferenceError as refusal:
            self._settle(entry.job_id, Failed(failure=refusal.failure))
            return
        if missing and self._fetching is not None:
            self._queue.park(entry)
            self._tell(entry.job_id, self._fetching.park(entry.job_id, missing))
            return
        self._queue.add(entry)
        self._wake()
        self._tell_positions()

    def _hear_of_download(self, job_id: str, news: Downloading | Failed | None) -> None:
        match news:
            case Downloading():
                self._tell(job_id, news)
            case Failed():
                self._queue.remove(job_id)
                self._settle(job_id, news)
            case None:
                self._queue.unpark(job_id)
                self._wake()
                self._tell_positions()

    def cancel(self, job_id: str) -> bool:
        """Take an order back, waiting or running; False if it is not here (any more)."""
        ticket = self._tickets.get(job_id)
        if ticket is None:
            return False
        self._queue.remove(job_id)
        if self._fetching is not None:
            self._fetching.forget(job_id)
        self._settle(job_id, Cancelled())
        for station in self._stations:
            if any(entry.job_id == job_id for entry in station.on_device()):
                station.worker.send(Stop(job_id=job_id))
        self._tell_positions()
        return True

    # -- draining ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drain the queue until cancelled, which also ends the workers; unfinished orders stay open for the next start.

        If this dies of anything else, the bot has to: nothing would ever be drawn again.
        """
        async with asyncio.TaskGroup() as self._drains:
            for station in self._stations:
                self._drains.create_task(self._drain(station))
            if self._fetching is not None:
                self._drains.create_task(self._fetching.run(self._hear_of_download))

    async def _drain(self, station: _Station) -> None:
        try:
            while True:
                try:
                    await self._serve(station)
                except WorkerGone as gone:
                    await self._recover(station, gone.failure)
        finally:
            await station.worker.stop()

    async def _serve(self, station: _Station) -> None:
        """Start the worker, then feed it and hear it until it is gone."""
        ready = await station.worker.start()
        station.failed_starts, station.ready = 0, True
        self._grow(ready.others)
        log.info("worker %s draws on %s in %s", station.worker.pid, ready.device, ready.precision)
        while True:
            self._feed(station)
            message = await station.worker.receive(timeout_s=self._timeout(station))
            if message is not None:
                self._hear(station, message)

    def _grow(self, devices: Sequence[str]) -> None:
        """Put the devices to work that nobody drives yet, once."""
        if self._hire is None or self._drains is None:
            return
        hire, self._hire = self._hire, None
        for name in devices:
            station = _Station(hire(name))
            self._stations.append(station)
            self._drains.create_task(self._drain(station))

    def _feed(self, station: _Station) -> None:
        """Send the next batch if the device is free. An order drawn alone has the worker to itself to the end.

        An order is left to another free device that holds its model, or where none does, one that holds fewer models.
        """
        others = [other for other in self._stations if other is not station]
        elsewhere = frozenset[str]().union(*(other.holds for other in others))
        leader = self._queue.peek(station.resident, elsewhere)
        if station.batch is not None or leader is None:
            return
        if station.jobs and (leader.alone or any(entry.alone for entry in station.jobs.values())):
            return
        if not leader.alone and any(_suits_better(other, station, leader.request.model) for other in others):
            return
        entries = self._queue.take(station.resident, elsewhere)
        station.batch = batch_of({entry.job_id: entry.request for entry in entries})
        station.phase, station.previews = Phase.LOADING, {}
        station.batch_since = station.heard_at = time.monotonic()
        station.jobs.update({entry.job_id: entry for entry in entries})
        for entry in entries:
            self._attempts[entry.job_id] += 1
            self._tickets[entry.job_id].tell(Running(progress=Progress(phase=Phase.LOADING)))
        station.worker.send(Draw(batch=station.batch))
        self._tell_positions()

    def _hear(self, station: _Station, message: FromWorker) -> None:
        station.heard_at = time.monotonic()
        match message:
            case BatchProgress(progress=progress):
                station.phase = progress.phase
                station.previews |= {(preview.job_id, preview.index): preview for preview in progress.previews}
                for entry in station.on_device():
                    self._tell(entry.job_id, station.running(entry.job_id, progress))
            case BatchDrawn(load_s=load_s, draw_s=draw_s, resident=resident):
                assert station.batch is not None
                self._pace.record(station.batch, load_s=load_s, draw_s=draw_s)
                station.resident = frozenset(resident)
                self._ailing.pop(station.batch.model, None)
                self._drawn(station)
            case JobSaved(job_id=job_id, pictures=pictures, seconds=seconds):
                station.jobs.pop(job_id, None)
                self._settle(job_id, Finished(pictures=pictures, seconds=seconds))
            case JobFailed(job_id=job_id, failure=failure):
                station.jobs.pop(job_id, None)
                self._settle(job_id, Failed(failure=failure))
            case BatchFailed(failure=failure):
                self._batch_failed(station, failure)
            case BatchStopped():
                self._release(station)
            case Ready() | StartFailed():
                raise AssertionError(f"a running worker said {message}")
            case _:
                assert_never(message)

    def _drawn(self, station: _Station) -> None:
        """The device is free; the worker saves what is still wanted."""
        for entry in self._release(station):
            if entry.job_id in self._tickets:
                station.jobs[entry.job_id] = entry
                self._tell(entry.job_id, station.running(entry.job_id, Progress(phase=Phase.SAVING)))

    def _batch_failed(self, station: _Station, failure: Failure) -> None:
        """The worker lives. Of several orders only one may be to blame, so each is tried by itself."""
        if station.batch is not None and not station.batch.adapters and isinstance(failure, WeightsUnreadable):
            self._ailing[station.batch.model] = failure
        entries = self._release(station)
        for entry in entries:
            if len(entries) > 1 and entry.job_id in self._tickets:
                self._queue.give_back(entry)
            else:
                self._settle(entry.job_id, Failed(failure=failure))

    def _release(self, station: _Station) -> list[Entry]:
        """Take the batch off the device and return its orders."""
        entries = station.on_device()
        station.batch = None
        for entry in entries:
            del station.jobs[entry.job_id]
        return entries

    async def _recover(self, station: _Station, failure: Failure) -> None:
        """After a worker's death: its jobs run once more, alone, or end here; a failing start is repeated slower."""
        log.warning("worker lost: %s", describe(failure))
        in_hand = list(station.jobs.values())
        station.jobs.clear()
        station.batch, station.resident, station.ready = None, frozenset(), False
        for entry in in_hand:
            if entry.job_id not in self._tickets:
                continue
            if self._attempts[entry.job_id] > 1:
                self._settle(entry.job_id, Failed(failure=failure))
            else:
                self._tell(entry.job_id, Retrying(failure=failure))
                self._queue.give_back(entry)
        if not in_hand:
            await self._back_off(station, failure)

    async def _back_off(self, station: _Station, failure: Failure) -> None:
        station.failed_starts += 1
        hopeless = not any(other.ready for other in self._stations)
        if hopeless and station.failed_starts >= self._patience.starts_before_giving_up:
            for entry in list(self._queue.in_order()):
                self._queue.remove(entry.job_id)
                self._settle(entry.job_id, Failed(failure=WorkerUnavailable(reason=describe(failure))))
        doubled = self._patience.first_backoff_s * 2 ** (station.failed_starts - 1)
        await asyncio.sleep(min(doubled, self._patience.longest_backoff_s))

    # -- telling people ------------------------------------------------------------------------------------------------

    def _tell(self, job_id: str, event: Standing) -> None:
        ticket = self._tickets.get(job_id)
        if ticket is not None:
            ticket.tell(event)

    def _settle(self, job_id: str, outcome: Outcome) -> None:
        """The one place where an order ends."""
        ticket = self._tickets.pop(job_id, None)
        self._attempts.pop(job_id, None)
        if ticket is not None:
            ticket.settle(outcome)

    def _tell_positions(self) -> None:
        for job_id, waiting in self._outlook.waiting():
            self._tell(job_id, waiting)

    def _timeout(self, station: _Station) -> float | None:
        """How much longer the worker may stay silent; None while it has nothing to do."""
        if not station.jobs:
            return None
        loading = station.batch is not None and station.phase is Phase.LOADING
        limit_s = self._patience.load_timeout_s if loading else self._patience.step_timeout_s
        return max(0.0, station.heard_at + limit_s - time.monotonic())

    def _wake(self) -> None:
        for station in self._stations:
            station.worker.wake()


def _suits_better(other: _Station, station: _Station, model: str) -> bool:
    """Whether ``other`` is free and would have less to load for ``model``, or more room for it."""
    is_free = other.ready and other.batch is None and not any(entry.alone for entry in other.jobs.values())
    if not is_free or model in station.resident:
        return False
    return model in other.resident or len(other.resident) < len(station.resident)
