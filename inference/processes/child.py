"""What every child process does first: it watches its parent, and leaves with it."""

from __future__ import annotations

import multiprocessing
import os
import threading


def leave_with_parent() -> None:
    """Watch the parent from a thread. A killed one cannot say goodbye; whatever this process is in the middle of, it
    must not outlive it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
