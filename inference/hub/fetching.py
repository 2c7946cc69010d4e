"""Downloads that orders wait for: one process per model, shared by all who asked for it, while drawing goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

from inference.catalog import Catalog
from inference.contract import Downloading, Failed, ImageRequest
from inference.errors import Failure, InferenceError, describe, unexpected
from inference.hub.fetcher import FetchSpec, fetch_for_parent
from inference.hub_errors import DownloadInterrupted, DownloadsOff
from inference.messages import DownloadEnded, DownloadProgress, FromFetcher
from inference.processes.parent import how_it_ended, start_child

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Simultaneous downloads; more of them would only share the bandwidth."""

Report: TypeAlias = Callable[[str, "Downloading | Failed | None"], None]
"""Called with an order's job id and the progress of its download, its failure, or None when everything is here."""


@dataclass(slots=True, eq=False)
class _Download:
    """A download under way, and the orders that wait for it."""

    names: tuple[str, ...]
    latest: Downloading
    waiting: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Fetching:
    """Downloads models that orders need. Lives on one event loop; its tasks are created by ``run``."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        catalog_path: Path,
        allowed: bool = True,
        checked: bool = True,
        log_level: str = "INFO",
    ) -> None:
        self._catalog = catalog
        self._catalog_path = catalog_path
        self.allowed = allowed
        self._checked = checked
        self._log_level = log_level
        self._downloads: dict[tuple[str, ...], _Download] = {}
        self._begun: asyncio.Queue[_Download] = asyncio.Queue()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def needs(self, request: ImageRequest) -> tuple[str, ...]:
        """The model and LoRAs of ``request`` that have to be downloaded first. Looks at a few files, so it is quick.

        Empty if downloading would be in vain: drawing then says what is missing. Raises ``InferenceError`` if
        downloads are switched off.
        """
        try:
            wanted = (request.model, *_loras(request))
            missing = {name: self._catalog.missing(name, checked=self._checked) for name in wanted}
        except InferenceError:
            return ()
        names = tuple(name for name, sources in missing.items() if sources)
        if not all(source.hub for sources in missing.values() for source in sources):
            return ()
        if names and not self.allowed:
            raise InferenceError(DownloadsOff(name=names[0]))
        return names

    def park(self, job_id: str, names: tuple[str, ...]) -> Downloading:
        """Have the order wait for ``names``; returns their progress."""
        download = self._downloads.get(names)
        if download is None:
            download = self._downloads[names] = _Download(names, self._news(names[0]))
            self._begun.put_nowait(download)
        download.waiting.append(job_id)
        return download.latest

    def forget(self, job_id: str) -> None:
        """The order is cancelled; a download that nobody waits for any more is stopped."""
        for download in list(self._downloads.values()):
            if download.waiting == [job_id]:
                del self._downloads[download.names]
                if download.task is not None:
                    download.task.cancel()
            download.waiting = [waiting for waiting in download.waiting if waiting != job_id]

    async def run(self, report: Report) -> None:
        """Download until cancelled, which ends the child processes; what they have downloaded stays."""
        async with asyncio.TaskGroup() as group:
            while True:
                download = await self._begun.get()
                if download.waiting:
                    download.task = group.create_task(self._see_through(download, report))

    async def _see_through(self, download: _Download, report: Report) -> None:
        try:
            async with AsyncExitStack() as turn:
                for name in sorted(download.names):  # waiting for another download of the same takes no slot
                    await turn.enter_async_context(self._turns.setdefault(name, asyncio.Lock()))
                await turn.enter_async_context(self._room)
                failure = await self._download(download, report)
        except Exception as error:
            failure = unexpected(error, log)
        if failure is not None:
            log.warning("download failed: %s", describe(failure))
        if self._downloads.get(download.names) is download:
            del self._downloads[download.names]
        for job_id in download.waiting:
            report(job_id, None if failure is None else Failed(failure=failure))

    async def _download(self, download: _Download, report: Report) -> Failure | None:
        spec = FetchSpec(
            catalog_path=self._catalog_path, names=download.names, checked=self._checked, log_level=self._log_level
        )
        async with _child(spec) as messages:
            async for message in messages:
                match message:
                    case DownloadEnded(failure=failure):
                        return failure
                    case DownloadProgress(name=name, done_bytes=done, total_bytes=total):
                        download.latest = self._news(name, done, total)
                        for job_id in download.waiting:
                            report(job_id, download.latest)
                    case str(reason):
                        return DownloadInterrupted(name=download.names[0], reason=reason)
        raise AssertionError("a child's messages end with how it ended")

    def _news(self, name: str, done: int = 0, total: int | None = None) -> Downloading:
        return Downloading(model=self._catalog.title(name), done_bytes=done, total_bytes=total)


def _loras(request: ImageRequest) -> tuple[str, ...]:
    return tuple(adapter.name for adapter in request.adapters)


@asynccontextmanager
async def _child(spec: FetchSpec) -> AsyncIterator[AsyncIterator[FromFetcher | str]]:
    """A child process for the length of the block: its messages, then how it ended."""
    inbox: asyncio.Queue[FromFetcher | None] = asyncio.Queue()
    process, connection = start_child(fetch_for_parent, spec, inbox, name="fetcher", duplex=False)

    async def messages() -> AsyncIterator[FromFetcher | str]:
        while (message := await inbox.get()) is not None:
            yield message
        await asyncio.to_thread(process.join)
        yield how_it_ended(process.exitcode)

    try:
        yield messages()
    finally:
        process.kill()
        try:
            await asyncio.to_thread(process.join)
        finally:
            connection.close()
