"""The worker process: draws one batch after the other on its device and hands the pictures to writer threads.

The engine is single-threaded and owned by this process's main thread, which polls the pipe between two steps: so a
batch can be stopped without a second thread touching the device. Encoding and saving overlap the next batch. Every
failure is sent as data; only what breaks the process itself ends it.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection

from inference.catalog import Catalog, CatalogError
from inference.contract import Batch, Picture, Progress
from inference.devices import AUTO
from inference.drawing.drawn import Drawn
from inference.drawing.engine import Engine
from inference.errors import CatalogUnreadable, Failure, InferenceError, unexpected
from inference.messages import (
    BatchDrawn,
    BatchFailed,
    BatchProgress,
    BatchStopped,
    Draw,
    FromWorker,
    JobFailed,
    JobSaved,
    Prefetch,
    Ready,
    Shutdown,
    StartFailed,
    Stop,
    ToWorker,
)
from inference.pictures.saving import PictureWriter
from inference.processes.handle import WorkerSpec

log = logging.getLogger(__name__)


def main(connection: Connection, spec: WorkerSpec) -> None:
    """Entry point of the child process."""
    if spec.nice and hasattr(os, "nice"):
        os.nice(spec.nice)  # the parent takes precedence on the processor
    try:
        engine = Engine(
            catalog=Catalog.load(spec.catalog_path),
            device=spec.device,
            precision=spec.precision,
            budgets=spec.budgets,
            safety_check=spec.safety_check,
            previews=True,
            compiler="inductor" if spec.compile else None,
        )
        writer = PictureWriter(spec.pictures_dir)
        unchecked = engine.safety_faults()
    except Exception as error:
        connection.send(StartFailed(failure=_as_failure(error)))
        return
    gc.collect()
    gc.freeze()  # the libraries stay: passing over them, a full collection no longer holds up the drawing
    others = engine.sibling_names if spec.device == AUTO else ()
    ready = Ready(device=engine.device_name, precision=engine.precision_name, others=others, unchecked=unchecked)
    try:
        Worker(engine=engine, writer=writer, connection=connection, ready=ready).run()
    except Exception:
        log.exception("this process cannot go on")
        os._exit(1)  # pictures are saved; a thread still reading weights would delay the exit for minutes


REST_AFTER_S = 5.0
"""Seconds without a message after which memory is given back. It costs time, and so does taking it again."""


class _Stopped(Exception):  # noqa: N818 (control flow, not an error)
    """The batch in hand is no longer wanted."""


class Worker:
    """The loop of the child: next message, next batch."""

    def __init__(self, *, engine: Engine, writer: PictureWriter, connection: Connection, ready: Ready) -> None:
        self._engine = engine
        self._ready = ready
        self._writer = writer
        self._connection = connection
        self._send_lock = threading.Lock()
        self._backlog: deque[Batch] = deque()
        self._current: Batch | None = None
        self._told: Progress | None = None
        self._unwanted: set[str] = set()
        self._leaving = False

    def run(self) -> None:
        """Draw until told to exit, or the parent is gone."""
        self._send(self._ready)
        try:
            while not self._leaving:
                if self._backlog:
                    self._draw(self._backlog.popleft())
                    continue
                if not self._connection.poll(REST_AFTER_S):
                    self._engine.rest()
                self._take_in(self._connection.recv())
        except (EOFError, BrokenPipeError):
            log.info("the parent is gone")
        finally:
            self._writer.close()

    def _draw(self, batch: Batch) -> None:
        started = time.monotonic()
        self._current, self._told = batch, None
        self._unwanted.clear()
        try:
            drawn = self._engine.draw(batch, self._on_progress)
        except _Stopped:
            self._send(BatchStopped())
            return
        except Exception as error:
            self._engine.require_device()  # if it is dead, this process ends: it may work again in a new one
            self._send(BatchFailed(failure=_as_failure(error)))
            return
        finally:
            self._current = None
        resident = self._engine.resident
        self._send(BatchDrawn(load_s=drawn.load_s, draw_s=drawn.draw_s, resident=resident))
        self._save(batch, drawn, started)

    def _on_progress(self, progress: Progress) -> None:
        """Report progress to the parent and handle its messages, between two steps and while a model loads."""
        assert self._current is not None
        if progress != self._told:
            self._send(BatchProgress(progress=progress))
            self._told = progress
        while self._connection.poll():
            self._take_in(self._connection.recv())
        if self._leaving or all(row.job_id in self._unwanted for row in self._current.rows):
            raise _Stopped

    def _take_in(self, message: ToWorker) -> None:
        match message:
            case Draw(batch=batch):
                self._backlog.append(batch)
            case Stop(job_id=job_id):
                self._unwanted.add(job_id)
            case Prefetch(model=model, adapters=adapters):
                self._engine.prefetch(model, adapters)
            case Shutdown():
                self._leaving = True

    def _save(self, batch: Batch, drawn: Drawn, started: float) -> None:
        """Hand every row to the writer threads; each job is reported when its last picture is on disk, or at once if
        one of its pictures has a fault."""
        by_job: dict[str, list[Future[Picture]]] = {}
        faults = {row.job_id: fault for row, fault in zip(batch.rows, drawn.faults, strict=True) if fault}
        for job_id, fault in faults.items():
            self._send(JobFailed(job_id=job_id, failure=fault))
        unsaved = self._unwanted | faults.keys()
        rows = zip(batch.rows, drawn.pixels, drawn.recipes, drawn.verdicts, drawn.unread, strict=True)
        for row, pixels, recipe, verdict, unread in rows:
            if row.job_id not in unsaved:
                explicit = verdict.explicit if verdict else None
                future = self._writer.write(row, pixels, recipe, explicit=explicit, unread=unread)
                by_job.setdefault(row.job_id, []).append(future)
        for job_id, futures in by_job.items():
            _when_all_are_done(futures, partial(self._report_saved, job_id, futures, started))

    def _report_saved(self, job_id: str, futures: list[Future[Picture]], started: float) -> None:
        """Tell the parent how the saving of one job ended; runs in a writer thread."""
        try:
            pictures = tuple(future.result() for future in futures)
        except Exception as error:
            self._send(JobFailed(job_id=job_id, failure=_as_failure(error)))
            return
        self._send(JobSaved(job_id=job_id, pictures=pictures, seconds=time.monotonic() - started))

    def _send(self, message: FromWorker) -> None:
        with self._send_lock:
            self._connection.send(message)


def _when_all_are_done(futures: list[Future[Picture]], then: Callable[[], None]) -> None:
    """Call ``then`` once, in the thread that finishes the last of ``futures``."""
    lock, still = threading.Lock(), len(futures)

    def one_is(_: Future[Picture]) -> None:
        nonlocal still
        with lock:
            still -= 1
            last = still == 0
        if last:
            then()

    for future in futures:
        future.add_done_callback(one_is)


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, InferenceError):
        return error.failure
    if isinstance(error, CatalogError):
        return CatalogUnreadable(reason=str(error))
    return unexpected(error, log)
