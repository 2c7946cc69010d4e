"""What the parent of any child process needs: to start it, to get its messages on the event loop, to word its end."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Spec = TypeVar("Spec")


def start_child(
    main: Callable[[Connection, Spec], None], spec: Spec, inbox: asyncio.Queue[Any], *, name: str, duplex: bool
) -> tuple[BaseProcess, Connection]:
    """Start a process that runs ``main`` with its end of a pipe; returns the process and our end.

    Its messages arrive in ``inbox`` on the running loop, then None when it closes its end, as it does by dying.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex)
    process = context.Process(target=main, args=(theirs, spec), name=name, daemon=True)
    process.start()
    theirs.close()
    arguments = (ours, inbox, asyncio.get_running_loop())
    threading.Thread(target=_read_into, args=arguments, name=f"{name}-reader", daemon=True).start()
    return process, ours


def _read_into(connection: Connection, inbox: asyncio.Queue[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Carry messages from the pipe to the loop until the child closes its end, then None; runs in a thread."""

    def deliver(message: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(inbox.put_nowait, message)

    with contextlib.suppress(EOFError, OSError):
        while True:
            deliver(connection.recv())
    deliver(None)


def how_it_ended(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None:
        return "killed, but it does not end"
    if exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"killed by signal {-exitcode}"
