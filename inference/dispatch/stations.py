"""A worker as the dispatcher sees it: what it has in hand, and how long it may be silent. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from inference.contract import Batch, Phase, Preview, Progress
from inference.dispatch.queue import Entry
from inference.messages import Draw, Prefetch
from inference.processes.handle import WorkerProcess

MOST_DOUBLINGS = 30
"""Of the backoff between two starts. A device may fail to start for days, and no float holds 2**1024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker may be silent before it is killed, and the backoff of failing starts."""

    load_timeout_s: float = 600.0
    step_timeout_s: float = 120.0
    first_backoff_s: float = 1.0
    longest_backoff_s: float = 60.0
    starts_before_giving_up: int = 3

    def backoff_s(self, failed_starts: int) -> float:
        """The backoff after so many failed starts in a row: it doubles each time, up to ``longest_backoff_s``."""
        doublings = min(failed_starts - 1, MOST_DOUBLINGS)
        return min(self.first_backoff_s * 2.0**doublings, self.longest_backoff_s)


@dataclass(slots=True, eq=False)
class Station:
    """A worker with what it has in hand: a batch on the device, and jobs whose pictures are being saved.

    Times are monotonic seconds.
    """

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
    proven: bool = False
    """Whether a worker has ever come up on this device."""
    prefetching: Prefetch | None = None
    """The last prefetch that the worker was sent, until a batch uses it."""
    is_told: bool = False
    """Whether it was sent during the batch in hand."""
    held_since: float | None = None
    """Since when its next batch has been held because more orders may join it."""
    alarm: asyncio.TimerHandle | None = None
    """Wakes it when the hold is over."""

    @property
    def holds(self) -> frozenset[str]:
        """The models that are in its memory, or being loaded."""
        return self.resident | {found.model for found in (self.batch, self.prefetching) if found}

    @property
    def has_one_alone(self) -> bool:
        """Whether it draws or saves an order that has the worker to itself."""
        return any(entry.alone for entry in self.jobs.values())

    def on_device(self) -> list[Entry]:
        """The orders of the batch in hand."""
        ids = {row.job_id for row in self.batch.rows} if self.batch else set()
        return [entry for job_id, entry in self.jobs.items() if job_id in ids]

    def begin(self, batch: Batch, entries: tuple[Entry, ...]) -> None:
        """Put a batch of these orders on the device."""
        self.batch, self.phase, self.previews, self.is_told = batch, Phase.LOADING, {}, False
        if self.prefetching == Prefetch(model=batch.model, adapters=batch.adapters):
            self.prefetching = None
        self.batch_since = self.heard_at = time.monotonic()
        self.jobs.update({entry.job_id: entry for entry in entries})
        self.worker.send(Draw(batch=batch))

    def prefetch(self, ahead: Prefetch) -> None:
        """Have a model loaded while the batch in hand is drawn."""
        self.prefetching, self.is_told = ahead, True
        self.worker.send(ahead)

    def release(self) -> list[Entry]:
        """Take the batch off the device; returns its orders, which are no longer in hand then."""
        entries = self.on_device()
        self.batch = None
        for entry in entries:
            del self.jobs[entry.job_id]
        return entries

    def clear(self) -> list[Entry]:
        """Forget everything, because the worker is gone; returns the orders that it had in hand."""
        entries = list(self.jobs.values())
        self.jobs.clear()
        self.batch, self.prefetching, self.resident, self.ready = None, None, frozenset(), False
        return entries

    def progress_of(self, job_id: str, progress: Progress) -> Progress:
        """The batch's progress with the latest previews of this job's pictures."""
        own = [preview for preview in self.previews.values() if preview.job_id == job_id]
        return replace(progress, previews=tuple(sorted(own, key=lambda preview: preview.index)))

    def silence_alarm(self) -> None:
        """Cancel the wake-up for a hold."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def silence_limit_s(self, patience: Patience) -> float | None:
        """How long the worker may stay silent since ``heard_at``; None while it has nothing to do."""
        if not self.jobs:
            return None
        loading = self.batch is not None and self.phase is Phase.LOADING
        return patience.load_timeout_s if loading else patience.step_timeout_s
