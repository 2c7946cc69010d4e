"""What a worker's messages, and its death, mean for the orders that it had in hand.

A failed request and a dead worker are different things: the first is answered; after the second, the job runs once
more, alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import assert_never

from inference.contract import Failed, Finished, Phase, Picture, Progress, Retrying, Running
from inference.dispatch.open_orders import OpenOrders
from inference.dispatch.pace import Pace
from inference.dispatch.queue import FairQueue
from inference.dispatch.stations import Station
from inference.errors import OF_THE_MODEL, Failure, WeightsUnreadable
from inference.messages import (
    BatchDrawn,
    BatchFailed,
    BatchProgress,
    BatchStopped,
    FromWorker,
    JobFailed,
    JobSaved,
    Ready,
    StartFailed,
)


class Hearing:
    """Settles orders, returns those to be retried to the queue, learns the pace and which models fail to load."""

    def __init__(
        self, *, queue: FairQueue, orders: OpenOrders, pace: Pace, discard: Callable[[tuple[Picture, ...]], None]
    ) -> None:
        self._queue = queue
        self._discard = discard
        self._orders = orders
        self._pace = pace
        self._ailing: dict[str, Failure] = {}

    @property
    def ailing(self) -> Mapping[str, Failure]:
        """By model name, why the model could not be loaded the last time."""
        return self._ailing

    def hear(self, station: Station, message: FromWorker) -> None:
        """Handle a message from the worker of ``station``."""
        station.heard_at = time.monotonic()
        match message:
            case BatchProgress(progress=progress):
                if progress.phase is station.phase is Phase.DECODING:  # people are not told how many are decoded
                    return
                station.phase = progress.phase
                station.previews |= {(preview.job_id, preview.index): preview for preview in progress.previews}
                for entry in station.on_device():
                    self._orders.tell(entry.job_id, Running(progress=station.progress_of(entry.job_id, progress)))
            case BatchDrawn():
                self._drawn(station, message)
            case JobSaved(job_id=job_id, pictures=pictures, seconds=seconds):
                station.jobs.pop(job_id, None)
                if job_id not in self._orders:  # it was cancelled too late to prevent the saving
                    self._discard(pictures)
                self._orders.settle(job_id, Finished(pictures=pictures, seconds=seconds))
            case JobFailed(job_id=job_id, failure=failure):
                station.jobs.pop(job_id, None)
                self._orders.settle(job_id, Failed(failure=failure))
            case BatchFailed(failure=failure):
                self._failed(station, failure)
            case BatchStopped():
                station.release()
            case Ready() | StartFailed():
                raise AssertionError(f"a running worker said {message}")
            case _:
                assert_never(message)

    def bury(self, station: Station, failure: Failure) -> bool:
        """After its worker's death: each order it had in hand runs once more, alone, or ends. False if it had none."""
        in_hand = station.clear()
        for entry in in_hand:
            if entry.job_id not in self._orders:
                continue
            if self._orders.may_try_again(entry.job_id):
                self._orders.put_back(entry.job_id, counts=True)
                self._orders.tell(entry.job_id, Retrying(failure=failure))
                self._queue.give_back(entry)
            else:
                self._orders.settle(entry.job_id, Failed(failure=failure))
        return bool(in_hand)

    def _drawn(self, station: Station, message: BatchDrawn) -> None:
        """The device is free; the worker saves what is still wanted."""
        assert station.batch is not None
        self._pace.record(station.batch, load_s=message.load_s, draw_s=message.draw_s)
        station.resident = frozenset(message.resident)
        self._ailing.pop(station.batch.model, None)
        for entry in station.release():
            if entry.job_id in self._orders:
                station.jobs[entry.job_id] = entry
                saving = station.progress_of(entry.job_id, Progress(phase=Phase.SAVING))
                self._orders.tell(entry.job_id, Running(progress=saving))

    def _failed(self, station: Station, failure: Failure) -> None:
        """The worker is alive. Of several orders only one may be to blame, so each is tried by itself; unless the fault
        lies in the model that they share."""
        if station.batch is not None and not station.batch.adapters and isinstance(failure, WeightsUnreadable):
            self._ailing[station.batch.model] = failure
        entries = station.release()
        tried_again = len(entries) > 1 and not isinstance(failure, OF_THE_MODEL)
        for entry in entries:
            if tried_again and entry.job_id in self._orders:
                self._orders.put_back(entry.job_id, counts=False)
                self._queue.give_back(entry)
            else:
                self._orders.settle(entry.job_id, Failed(failure=failure))
