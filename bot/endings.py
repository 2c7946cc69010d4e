"""How a job's last card comes about: what the database says of it, its files, and a way to the person."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from bot.attachments import Attachment, attachment
from bot.cards import cancelled_card, failed_card, finished_card
from bot.delivery import Delivery, Parcel
from bot.gallery import Gallery
from bot.store import Job, Jobs, JobState, Origin, StoredPicture
from inference.catalog import Catalog, ModelEntry
from inference.errors import InferenceError

log = logging.getLogger("bot.endings")

GONE = "The pictures are no longer on this machine. Their seeds still are: draw them again."
REQUEST_LIMIT = 24 * 2**20
"""Bytes of all files of one message together; Discord takes 25 MiB a request."""


class Endings:
    """Shows settled jobs; the same whether they ended just now or before a restart."""

    def __init__(self, *, catalog: Catalog, jobs: Jobs, gallery: Gallery, delivery: Delivery) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._gallery = gallery
        self._delivery = delivery

    async def show(self, job_id: str) -> None:
        """Bring the last card of a settled job to its person, and note that it was brought."""
        job = await self._jobs.get(job_id)
        if job is None:  # deleted by its owner meanwhile
            return
        await self._delivery.show_end(job, await self.parcel(job))
        await self._jobs.delivered(job.id)

    async def parcel(self, job: Job) -> Parcel:
        """The last card of ``job`` with its files."""
        match job.state:
            case JobState.FAILED:
                return Parcel(view=lambda: failed_card(job))
            case JobState.CANCELLED:
                return Parcel(view=lambda: cancelled_card(job))
            case _:
                return await self._pictures(job)

    async def _pictures(self, job: Job) -> Parcel:
        pictures = await self._jobs.pictures(job.id)
        limit = min(job.place.attachment_size_limit, REQUEST_LIMIT // max(1, len(pictures)))
        files = await asyncio.gather(*(self._attachment(picture, limit) for picture in pictures))
        found = [(picture, file) for picture, file in zip(pictures, files, strict=True) if file is not None]
        if not found:
            return Parcel(view=lambda: failed_card(replace(job, failure=GONE)))
        identical = await self._identical(job, pictures)
        entry = self._entry(job)
        there, media = [picture for picture, _ in found], [f"attachment://{file.name}" for _, file in found]
        return Parcel(
            view=lambda: finished_card(job, there, media, entry, identical=identical),
            files=tuple(file for _, file in found),
        )

    async def _attachment(self, picture: StoredPicture, limit: int) -> Attachment | None:
        """The picture's file; None if somebody took it away."""
        try:
            return await asyncio.to_thread(attachment, self._gallery.path(picture.id), limit=limit)
        except OSError as error:
            log.warning("picture %s cannot be read: %s", picture.id, error)
            return None

    async def _identical(self, job: Job, pictures: Sequence[StoredPicture]) -> bool | None:
        """Whether an order for the same pictures gave them; None where that was not asked, or cannot be told."""
        if job.origin is not Origin.SAME_SEED or job.parent_id is None:
            return None
        first = await self._jobs.pictures(job.parent_id)
        if not first:
            return None
        return [picture.pixels_sha256 for picture in first] == [picture.pixels_sha256 for picture in pictures]

    def _entry(self, job: Job) -> ModelEntry | None:
        """The model, unless it has left the catalogue."""
        try:
            return self._catalog[job.request.model]
        except InferenceError:
            return None
