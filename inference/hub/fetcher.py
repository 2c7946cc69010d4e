"""The process that downloads one model with its requested LoRAs, then exits. Knows neither torch nor the queue.

It can be killed at any moment: what has been downloaded is on disk, and the next process resumes from there.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from inference.errors import CatalogUnreadable, Failure, InferenceError, unexpected
from inference.messages import DownloadEnded, DownloadProgress
from inference.processes.child import set_up

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSpec:
    """What to download: a model and LoRAs, by their names in the catalogue, and the checker if it is wanted."""

    catalog_path: Path
    names: tuple[str, ...]
    checked: bool = True
    log_level: str = "INFO"


def fetch_for_parent(connection: Connection, spec: FetchSpec) -> None:
    """Entry point of the child process."""
    set_up(spec.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    connection.send(DownloadEnded(failure=_fetch(connection, spec)))


def _fetch(connection: Connection, spec: FetchSpec) -> Failure | None:
    from inference.catalog import Catalog, CatalogError
    from inference.hub.downloads import pull

    try:
        catalog = Catalog.load(spec.catalog_path)
        with _Reporter(connection) as reporter:
            for name in spec.names:
                pull(catalog, name, partial(reporter.report, name), checked=spec.checked)
    except InferenceError as error:
        return error.failure
    except CatalogError as error:
        return CatalogUnreadable(reason=str(error))
    except Exception as error:
        return unexpected(error, log)
    return None


class _Reporter:
    """Reports the progress of a download to the parent about once a second, from a thread of its own, so that a stalled
    connection does not hold it back."""

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
