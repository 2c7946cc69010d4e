"""The parent's handle on one worker process: start it, talk to it, notice its death, end it. Knows no queue or jobs.

The child's messages arrive through a reader thread, because a pipe cannot be awaited on every platform. The parent
closes its copy of the child's end, so a dead child shows up as the end of the stream within milliseconds; no polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

from inference.errors import Failure, WorkerDied, WorkerTimedOut
from inference.memory.budgets import Budgets
from inference.messages import FromWorker, Ready, Shutdown, StartFailed, ToWorker
from inference.processes.child import set_up
from inference.processes.parent import how_it_ended, start_child


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to know: which device to use, with which models, and where pictures are saved.

    ``device`` and ``precision`` take torch's names or ``"auto"``. ``budgets`` bound the loaded models. Without
    ``safety_check``, nothing checks whether pictures are explicit. ``compile``: whether networks are compiled.
    """

    catalog_path: Path
    pictures_dir: Path
    device: str = "auto"
    precision: str = "auto"
    budgets: Budgets = field(default_factory=Budgets)
    safety_check: bool = True
    compile: bool = False
    nice: int = 10
    log_level: str = "INFO"


WorkerMain: TypeAlias = Callable[[Connection, WorkerSpec], None]


def draw_for_parent(connection: Connection, spec: WorkerSpec) -> None:
    """Entry point of a worker process. It imports torch there, and only there."""
    set_up(spec.log_level)
    from inference.processes.worker import main

    main(connection, spec)


class WorkerGone(Exception):  # noqa: N818 (an event more than an error)
    """The worker process is not running (any more)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


DYING_S = 10.0
"""Seconds after which a child that closed its pipe is killed, and a killed one is given up: one that hangs in a driver
may never end."""


class _Wake:
    """Put into the inbox to make ``receive`` return without a message."""


class WorkerProcess:
    """One worker, restarted as often as needed; used by a single task."""

    def __init__(self, *, spec: WorkerSpec, main: WorkerMain = draw_for_parent, start_timeout_s: float = 120.0) -> None:
        self._spec = spec
        self._main = main
        self._start_timeout_s = start_timeout_s
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._inbox: asyncio.Queue[FromWorker | _Wake | None] = asyncio.Queue()
        self._ready: Ready | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._process.pid if self._process else None

    async def start(self) -> Ready:
        """Start the child and wait for its handshake; raises ``WorkerGone`` if none comes.

        A worker that was started early is not started again.
        """
        if self._ready is not None:
            return self._ready
        self._inbox = asyncio.Queue()
        self._process, self._connection = start_child(self._main, self._spec, self._inbox, name="worker", duplex=True)
        message = await self.receive(timeout_s=self._start_timeout_s)
        match message:
            case Ready():
                self._ready = message
                return message
            case StartFailed(failure=failure):
                await self.kill()
                raise WorkerGone(failure)
            case _:
                raise AssertionError(f"a worker began with {message}")

    def send(self, message: ToWorker) -> None:
        """Hand a message to the child. A child that died meanwhile is noticed by ``receive``, not here."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(message)

    def wake(self) -> None:
        """Make a waiting ``receive`` return None. A worker that is still starting need not be woken."""
        if self._ready:
            self._inbox.put_nowait(_Wake())

    async def receive(self, *, timeout_s: float | None, since: float | None = None) -> FromWorker | None:
        """The child's next message, or None after ``wake``.

        Raises ``WorkerGone`` if the child died, or if it was silent for ``timeout_s`` (it is then killed), counted from
        now or from ``since`` (monotonic seconds).
        """
        passed_s = 0.0 if since is None else time.monotonic() - since
        try:
            async with asyncio.timeout(None if timeout_s is None else max(0.0, timeout_s - passed_s)):
                message = await self._inbox.get()
        except TimeoutError:
            await self.kill()
            raise WorkerGone(WorkerTimedOut(seconds=timeout_s or 0.0)) from None
        if message is None:
            reason = await self._reap(grace_s=DYING_S)
            raise WorkerGone(WorkerDied(reason=reason))
        return None if isinstance(message, _Wake) else message

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Ask the child to finish saving and exit; kill it after ``grace_s`` seconds."""
        self.send(Shutdown())
        await self._reap(grace_s=grace_s)

    async def kill(self) -> None:
        """End the child now."""
        await self._reap(grace_s=0)

    async def _reap(self, *, grace_s: float) -> str:
        """Wait for the child's end, and kill it if it does not end by itself; returns how it ended, in words."""
        process, self._process, self._ready = self._process, None, None
        if process is None:
            return "it had ended already"
        await asyncio.to_thread(process.join, grace_s)
        process.kill()  # does nothing to one that has ended
        await asyncio.to_thread(process.join, DYING_S)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return how_it_ended(process.exitcode)
