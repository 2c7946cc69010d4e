"""An example picture of every model, drawn once and kept: its file's name follows from its order."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from bot.gallery import Gallery
from inference.catalog import Catalog
from inference.contract import ImageRequest, picture_id
from inference.dispatcher import Dispatcher
from inference.entries import ModelEntry
from inference.ticket import Ticket

OWNER = "examples"
"""In the queue, examples take turns with people as one person would."""
SMALL_BYTES = 256 * 2**20
"""Models of this size on disk load so fast that examples of them may be drawn without being asked for."""


class Examples:
    """Finds examples, and orders those that are missing."""

    def __init__(self, *, catalog: Catalog, dispatcher: Dispatcher, gallery: Gallery) -> None:
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._gallery = gallery
        self._tickets: dict[str, Ticket] = {}

    def known(self) -> set[str]:
        """The ids of the pictures that examples have or would have."""
        return {_picture(entry) for entry in self._catalog if entry.examples}

    def find(self, entry: ModelEntry) -> Path | None:
        """The example, if it has been drawn. Blocks."""
        path = self._gallery.path(_picture(entry))
        return path if entry.examples and path.exists() else None

    async def order(self, entry: ModelEntry) -> Ticket | None:
        """Have the example drawn; None where it cannot be. The file is there once the ticket has ended well."""
        if not entry.examples or not await asyncio.to_thread(self._catalog.on_disk, entry):
            return None
        under_way = self._tickets.get(entry.name)
        if under_way is None or under_way.settled:
            request = _request(entry)
            ticket = self._dispatcher.submit(job_id=_job(request), owner=OWNER, request=request, resumed=True)
            self._tickets[entry.name] = ticket
        return self._tickets[entry.name]

    async def order_small(self, entries: list[ModelEntry]) -> None:
        """Have missing examples drawn where that keeps nobody waiting for long."""
        for entry in await asyncio.to_thread(self._missing_and_small, entries):
            await self.order(entry)

    def _missing_and_small(self, entries: list[ModelEntry]) -> list[ModelEntry]:
        return [entry for entry in entries if entry.examples and self.find(entry) is None and self._is_small(entry)]

    def _is_small(self, entry: ModelEntry) -> bool:
        places = [source.locate() for source in self._catalog.sources(entry)]
        found = [place for place in places if place is not None]
        return len(found) == len(places) and sum(map(_bytes, found)) <= SMALL_BYTES


def _request(entry: ModelEntry) -> ImageRequest:
    return ImageRequest(
        prompt=entry.examples[0],
        model=entry.name,
        seed=7,
        count=1,
        steps=round(entry.steps.default),
        guidance=entry.guidance.default,
        width=entry.width,
        height=entry.height,
    )


def _job(request: ImageRequest) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, repr(request)))


def _picture(entry: ModelEntry) -> str:
    return picture_id(_job(_request(entry)), 0) if entry.examples else ""


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
