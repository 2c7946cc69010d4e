"""What every child process does first: leave Ctrl-C to its parent, watch the parent, and exit with it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up(log_level: str) -> None:
    """Set up this process as a child; ``log_level`` is the setting LOG_LEVEL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=log_level, format=LOG_FORMAT)
    _leave_with_parent()


def _leave_with_parent() -> None:
    """Watch the parent from a thread. A killed parent cannot say goodbye; whatever this process is doing, it must not
    outlive it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
