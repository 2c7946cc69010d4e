"""When a waiting order's turn comes: the measured pace applied to the queue's plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from inference.batching import bucket_for
from inference.contract import Batch, Waiting
from inference.dispatch.pace import Pace
from inference.dispatch.queue import Entry, FairQueue


class Device(Protocol):
    """What the estimates need to know of a device: its batch, when that began (monotonic seconds), and its models."""

    batch: Batch | None
    batch_since: float
    resident: frozenset[str]


class Outlook:
    """Estimates for everybody who waits; None where nothing comparable has been timed."""

    def __init__(self, *, queue: FairQueue, pace: Pace, devices: Sequence[Device]) -> None:
        self._queue = queue
        self._pace = pace
        self._devices = devices

    def waiting(self) -> Iterator[tuple[str, Waiting]]:
        """Position of every waiting order, by job id, with the seconds until it is drawn."""
        ahead_s = self._seconds_left()
        position = 0
        for batch in self._queue.plan():
            ahead_s = _sum(ahead_s, self._estimate(batch))
            for entry in batch:
                position += 1
                yield entry.job_id, Waiting(position=position, eta_s=ahead_s)

    def seconds_until_room(self) -> float | None:
        """Estimated seconds until the next batch is drawn."""
        first = next(iter(self._queue.plan()), None)
        return None if first is None else _sum(self._seconds_left(), self._estimate(first))

    def _estimate(self, entries: tuple[Entry, ...]) -> float | None:
        request = entries[0].request
        bucket = request.bucket or bucket_for(sum(entry.request.count for entry in entries))
        draw_s = self._pace.draw_s(
            model=request.model,
            guided=any(entry.request.guidance > 1 for entry in entries),
            bucket=bucket,
            steps=request.steps,
            width=request.width,
            height=request.height,
        )
        if draw_s is None:
            return None
        resident = any(request.model in device.resident for device in self._devices)
        return (draw_s + (0.0 if resident else self._pace.load_s(request.model))) / len(self._devices)

    def _seconds_left(self) -> float | None:
        """Estimated seconds until the first device is free."""
        left: list[float] = []
        for device in self._devices:
            batch = device.batch
            if batch is None:
                return 0.0
            expected = self._pace.draw_s(
                model=batch.model,
                guided=batch.guided_bucket > 0,
                bucket=batch.bucket,
                steps=batch.steps,
                width=batch.width,
                height=batch.height,
            )
            if expected is None:
                return None
            left.append(max(0.0, expected - (time.monotonic() - device.batch_since)))
        return min(left, default=None)


def _sum(*seconds: float | None) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None
