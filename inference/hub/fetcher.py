"""The process that downloads one model with what is asked for on top, and leaves. Knows neither torch nor the queue.

It can be ended at any moment: what has arrived is on the disk, and the next one goes on from there.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from inference.contract import DownloadEnded, DownloadProgress
from inference.errors import Failure, InferenceError, Unexpected
from inference.processes.child import leave_with_parent

log = logging.getLogger("inference.hub.fetcher")

REPORT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSpec:
    """What to download: a model and LoRAs, by their names in the catalogue; and what checks pictures, if wanted."""

    catalog_path: Path
    names: tuple[str, ...]
    checked: bool = True


def fetch_for_parent(connection: Connection, spec: FetchSpec) -> None:
    """Entry point of the child process. Ctrl-C is the parent's; where it goes, this process goes too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    connection.send(DownloadEnded(failure=_fetch(connection, spec)))


def _fetch(connection: Connection, spec: FetchSpec) -> Failure | None:
    from inference.catalog import Catalog
    from inference.hub.downloads import pull

    try:
        catalog = Catalog.load(spec.catalog_path)
        with _Reporter(connection) as reporter:
            for name in spec.names:
                pull(catalog, name, partial(reporter.report, name), checked=spec.checked)
    except InferenceError as error:
        return error.failure
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("unexpected failure %s", reference)
        return Unexpected(reference=reference)
    return None


class _Reporter:
    """Tells the parent about once a second how far a download is, from a thread of its own: news are not held back by
    a connection that has come to a standstill."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._latest: DownloadProgress | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="reporter", daemon=True)

    def __enter__(self) -> _Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def report(self, name: str, done: int, total: int) -> None:
        self._latest = DownloadProgress(name=name, done_bytes=done, total_bytes=total)

    def _tell(self) -> None:
        told = None
        while not self._over.wait(REPORT_EVERY_S):
            latest = self._latest
            if latest is not None and latest != told:
                self._connection.send(latest)
                told = latest
