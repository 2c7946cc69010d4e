"""An example picture of every model, drawn once and kept: its file's name follows from its order.

The safety check's verdict on it is kept as well, and decides where it is shown, as with any other picture.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path

from bot.background import Background
from bot.delivery.gallery import Gallery
from bot.store import Store
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import Finished, ImageRequest, picture_id
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.ticket import Ticket

OWNER = "examples"
"""In the queue, examples take turns with people as if one person had ordered them."""
SMALL_BYTES = 256 * 2**20
"""Models up to this size on disk load so fast that examples of them may be drawn without being asked for."""


VERDICTS = {"explicit": True, "decent": False, "unchecked": None}
"""The verdicts of a safety check as they are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture on disk; ``explicit`` is the safety check's verdict, None without one."""

    path: Path
    explicit: bool | None


class Examples:
    """Finds examples, and orders those that are missing."""

    def __init__(
        self, *, catalog: Catalog, dispatcher: Dispatcher, gallery: Gallery, store: Store, background: Background
    ) -> None:
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._gallery = gallery
        self._store = store
        self._background = background
        self._tickets: dict[str, Ticket] = {}

    def known(self) -> set[str]:
        """The ids of the pictures that examples have or would have."""
        return {_picture(entry) for entry in self._catalog if entry.examples}

    async def find(self, entry: ModelEntry) -> Example | None:
        """The example, if it has been drawn and, unless the model is harmless, its verdict recorded."""
        path = self._gallery.path(_picture(entry))
        if not entry.examples or not await asyncio.to_thread(path.exists):
            return None
        noted = "unchecked" if entry.harmless else await self._store.remembered(_key(entry))
        return None if noted is None else Example(path=path, explicit=VERDICTS[noted])

    async def order(self, entry: ModelEntry) -> Ticket | None:
        """Have the example drawn; None if it cannot be. It can be found once its ``ending`` has been awaited."""
        if not entry.examples or not await asyncio.to_thread(self._catalog.on_disk, entry):
            return None
        under_way = self._tickets.get(entry.name)
        if under_way is None or under_way.settled:
            request = _request(entry)
            ticket = self._dispatcher.submit(job_id=_job(request), owner=OWNER, request=request, resumed=True)
            self._tickets[entry.name] = ticket
            self._background.begin(f"example of {entry.name}", self.ending, entry, ticket)
        return self._tickets[entry.name]

    async def ending(self, entry: ModelEntry, ticket: Ticket) -> None:
        """Wait until the order of an example has ended, and record the safety check's verdict."""
        outcome = await ticket.outcome()
        if isinstance(outcome, Finished):
            [picture] = outcome.pictures
            said = next(said for said, explicit in VERDICTS.items() if explicit is picture.explicit)
            await self._store.remember(_key(entry), said)

    async def order_small(self, entries: list[ModelEntry]) -> None:
        """Have missing examples drawn where that keeps nobody waiting long."""
        for entry in entries:
            if await self.find(entry) is None and await asyncio.to_thread(self._is_small, entry):
                await self.order(entry)

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


def _key(entry: ModelEntry) -> str:
    return f"example {_picture(entry)}"


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
