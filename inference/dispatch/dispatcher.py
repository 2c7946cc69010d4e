"""The async queue and the tasks that drain it: next batch to the worker, its messages back to those who ordered.

One draining task per worker. ``feeding`` decides what a device gets, ``hearing`` what becomes of the orders it had in
hand; every order ends in exactly one place, ``open_orders``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from inference.batching import batch_of
from inference.contract import Cancelled, Downloading, Failed, ImageRequest, Phase, Picture, Progress, Running, Standing
from inference.dispatch.feeding import Feeding, Held
from inference.dispatch.hearing import Hearing
from inference.dispatch.open_orders import MOST_ATTEMPTS, OpenOrders
from inference.dispatch.outlook import Outlook
from inference.dispatch.pace import Pace
from inference.dispatch.queue import Entry, FairQueue
from inference.dispatch.stations import Patience, Station
from inference.dispatch.ticket import Ticket
from inference.errors import UNDRIVEABLE, Failure, InferenceError, WorkerDied, WorkerUnavailable, describe
from inference.hub.fetching import Fetching
from inference.messages import BatchFailed, Stop
from inference.processes.handle import WorkerGone, WorkerProcess

log = logging.getLogger(__name__)


class Dispatcher:
    """Accepts orders, keeps them in fair order, and feeds the workers. Lives on one event loop.

    ``hire`` creates a worker for a device by name: for those that the first worker reports besides its own.
    ``fetching`` downloads models; without it, orders for missing ones fail when they are drawn. ``batch_wait_s`` bounds
    how long a batch is held while more orders of its kind keep coming. ``discard`` is given the pictures on disk of
    orders that were cancelled while being saved.
    """

    def __init__(
        self,
        *,
        workers: Sequence[WorkerProcess],
        queue: FairQueue,
        patience: Patience | None = None,
        hire: Callable[[str], WorkerProcess] | None = None,
        fetching: Fetching | None = None,
        batch_wait_s: float = 0.02,
        discard: Callable[[tuple[Picture, ...]], None] = lambda pictures: None,
    ) -> None:
        self._stations = [Station(worker) for worker in workers]
        self._hire = hire
        self._fetching = fetching
        self._drains: asyncio.TaskGroup | None = None
        self._queue = queue
        pace = Pace()
        self._outlook = Outlook(queue=queue, pace=pace, devices=self._stations)
        self._patience = patience or Patience()
        self._orders = OpenOrders()
        self._feeding = Feeding(queue=queue, stations=self._stations, wait_s=batch_wait_s)
        self._hearing = Hearing(queue=queue, orders=self._orders, pace=pace, discard=discard)

    def __len__(self) -> int:
        """The number of waiting orders."""
        return len(self._queue)

    @property
    def resident(self) -> frozenset[str]:
        """The models that are in some device's memory."""
        return frozenset[str]().union(*(station.resident for station in self._stations))

    @property
    def ailing(self) -> Mapping[str, Failure]:
        """By model name, why the model could not be loaded the last time."""
        return self._hearing.ailing

    @property
    def downloads(self) -> bool:
        """Whether a model that is missing is downloaded when somebody orders it."""
        return self._fetching is not None and self._fetching.allowed

    def waiting_for(self, owner: str) -> int:
        """How many orders of this person wait."""
        return self._queue.waiting_for(owner)

    def waiting_in(self, group: str) -> int:
        """How many orders of this community wait."""
        return self._queue.waiting_in(group)

    def standing(self) -> dict[str, Standing]:
        """The state of every open order, by job id."""
        return self._orders.standing()

    def seconds_until_room(self) -> float | None:
        """Estimated seconds until the next batch is drawn; None if nothing comparable has been timed."""
        return self._outlook.seconds_until_room()

    # -- taking orders -------------------------------------------------------------------------------------------------

    def check_room(self, owner: str, *, orders: int = 1) -> None:
        """Raise ``InferenceError`` if this many more orders of this person would be refused now."""
        self._queue.check_room(owner, orders=orders, retry_after_s=self.seconds_until_room())

    @property
    def most_waiting(self) -> int:
        """How many orders one person may have waiting if nobody else waits."""
        return self._queue.most_waiting

    def to_fetch(self, request: ImageRequest) -> tuple[str, ...]:
        """What has to be downloaded first for an order; raises ``InferenceError`` if downloads are switched off."""
        return () if self._fetching is None else self._fetching.needs(request)

    def submit(
        self,
        *,
        job_id: str,
        owner: str,
        request: ImageRequest,
        group: str | None = None,
        resumed: bool = False,
        attempts: int = 0,
    ) -> Ticket:
        """Queue an order of a person in a community (``group``); raises ``InferenceError`` like ``check_room``
        and ``to_fetch``.

        A ``resumed`` order was accepted before a restart and is not refused now. If a worker had it in hand then
        (``attempts``), it may be what ended the bot: it is drawn once more, alone, and never a third time.
        """
        if not resumed:
            self.check_room(owner)
            self.to_fetch(request)
        ticket = self._orders.open(job_id, attempts=attempts)
        if attempts >= MOST_ATTEMPTS:
            self._orders.settle(job_id, Failed(failure=WorkerDied(reason="the whole bot went down with it")))
        else:
            self._take_in(Entry(job_id=job_id, owner=owner, group=group, request=request, alone=attempts > 0))
        return ticket

    def _take_in(self, entry: Entry) -> None:
        """Queue ``entry``, or park it if its model has to be downloaded first."""
        try:
            missing = self.to_fetch(entry.request)
        except InferenceError as refusal:
            self._orders.settle(entry.job_id, Failed(failure=refusal.failure))
            return
        if missing and self._fetching is not None:
            self._queue.park(entry)
            self._orders.tell(entry.job_id, self._fetching.park(entry.job_id, missing))
            return
        self._queue.add(entry, now=time.monotonic())
        self._wake()
        self._tell_positions()

    def _hear_of_download(self, job_id: str, news: Downloading | Failed | None) -> None:
        match news:
            case Downloading():
                self._orders.tell(job_id, news)
            case Failed():
                self._queue.remove(job_id)
                self._orders.settle(job_id, news)
            case None:
                self._queue.unpark(job_id, now=time.monotonic())
                self._wake()
                self._tell_positions()

    def cancel(self, job_id: str) -> bool:
        """Cancel an order, waiting or running; False if there is no such order (any more)."""
        if job_id not in self._orders:
            return False
        self._queue.remove(job_id)
        if self._fetching is not None:
            self._fetching.forget(job_id)
        self._orders.settle(job_id, Cancelled())
        for station in self._stations:
            if any(entry.job_id == job_id for entry in station.on_device()):
                station.worker.send(Stop(job_id=job_id))
        self._wake()
        self._tell_positions()
        return True

    # -- draining ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drain the queue until cancelled, which also ends the workers; unfinished orders stay open for the next start.

        If this ends with any other error, so must the bot: nothing would ever be drawn again.
        """
        async with asyncio.TaskGroup() as self._drains:
            for station in self._stations:
                self._drains.create_task(self._drain(station))
            if self._fetching is not None:
                self._drains.create_task(self._fetching.run(self._hear_of_download))

    async def _drain(self, station: Station) -> None:
        try:
            while True:
                try:
                    await self._serve(station)
                except WorkerGone as gone:
                    await self._recover(station, gone.failure)
        finally:
            await station.worker.stop()

    async def _serve(self, station: Station) -> None:
        """Start the worker, then feed it and handle its messages until it is gone."""
        ready = await station.worker.start()
        station.failed_starts, station.ready, station.proven = 0, True, True
        self._grow(ready.others)
        log.info("worker %s draws on %s in %s", station.worker.pid, ready.device, ready.precision)
        while True:
            self._feed(station)
            self._prepare(station)
            limit_s = station.silence_limit_s(self._patience)
            message = await station.worker.receive(timeout_s=limit_s, since=station.heard_at)
            if message is not None:
                self._hearing.hear(station, message)
            if isinstance(message, BatchFailed):
                self._share()

    def _grow(self, devices: Sequence[str]) -> None:
        """Start workers on the devices that have none yet, once."""
        if self._hire is None or self._drains is None:
            return
        hire, self._hire = self._hire, None
        for name in devices:
            station = Station(hire(name))
            self._stations.append(station)
            self._drains.create_task(self._drain(station))

    def _feed(self, station: Station) -> None:
        """Send the next batch if there is one for this device, or look again when it has been held long enough."""
        entries = self._feeding.next_orders(station, now=time.monotonic())
        station.silence_alarm()
        if isinstance(entries, Held):
            station.alarm = asyncio.get_running_loop().call_later(entries.seconds, station.worker.wake)
            return
        if not entries:
            return
        for entry in entries:
            self._orders.begin_attempt(entry.job_id)
            self._orders.tell(entry.job_id, Running(progress=Progress(phase=Phase.LOADING)))
        station.begin(batch_of({entry.job_id: entry.request for entry in entries}), entries)
        self._share()

    def _prepare(self, station: Station) -> None:
        """Have the worker load, while it draws, the model that its next batch will probably need."""
        ahead = self._feeding.to_prefetch(station, ailing=self._hearing.ailing)
        if ahead is not None:
            station.prefetch(ahead)

    async def _recover(self, station: Station, failure: Failure) -> None:
        """After a worker's death: it is restarted, with a growing backoff if even that fails.

        Raises ``InferenceError`` if its device or precision is unknown, and no worker has ever come up there.
        """
        if isinstance(failure, UNDRIVEABLE) and not station.proven:
            raise InferenceError(failure)
        log.warning("worker lost: %s", describe(failure))
        had_work = self._hearing.bury(station, failure)
        self._share()
        if not had_work:
            await self._back_off(station, failure)

    async def _back_off(self, station: Station, failure: Failure) -> None:
        station.failed_starts += 1
        if all(other.failed_starts >= self._patience.starts_before_giving_up for other in self._stations):
            for entry in list(self._queue.in_order()):
                self._queue.remove(entry.job_id)
                self._orders.settle(entry.job_id, Failed(failure=WorkerUnavailable(reason=describe(failure))))
        await asyncio.sleep(self._patience.backoff_s(station.failed_starts))

    def _share(self) -> None:
        """Offer waiting orders to other devices: the one they were left to is busy now, or has given them back."""
        if len(self._queue):
            self._wake()
        self._tell_positions()

    def _tell_positions(self) -> None:
        for job_id, waiting in self._outlook.waiting():
            self._orders.tell(job_id, waiting)

    def _wake(self) -> None:
        for station in self._stations:
            station.worker.wake()
