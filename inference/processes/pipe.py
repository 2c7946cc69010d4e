"""What the parent of any child process needs: its messages brought to the event loop, and its end put in words."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from multiprocessing.connection import Connection
from typing import Any


def read_into(connection: Connection, inbox: asyncio.Queue[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Carry messages from the pipe to the loop until the child closes its end, then None; runs in a thread."""

    def deliver(message: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(inbox.put_nowait, message)

    with contextlib.suppress(EOFError, OSError):
        while True:
            deliver(connection.recv())
    deliver(None)


def how_it_ended(exitcode: int | None) -> str:
    """How a process ended, for people."""
    if exitcode is None:
        return "killed, but it does not end"
    if exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"killed by signal {-exitcode}"
