"""Follows an order: keeps its card up to date, records its end, then shows it, however long that takes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from bot.background import Background
from bot.delivery.attachments import Attachment
from bot.delivery.delivery import Delivery, DiscordAway, Parcel, token_lives
from bot.delivery.endings import Endings
from bot.delivery.gallery import Gallery
from bot.delivery.lateness import late_note
from bot.ordering.access import Showing
from bot.store import Job, Jobs
from bot.ui.cards import progress_card, retry_note
from bot.words import speaking, told
from inference.contract import (
    Cancelled,
    Failed,
    Finished,
    JobEvent,
    Outcome,
    Running,
    Standing,
    picture_id,
)
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.ticket import Ticket
from inference.errors import describe

log = logging.getLogger("bot.delivery.following")

T = TypeVar("T")

AWAY_S = 60.0
"""Seconds between attempts to show a job's end while Discord cannot be reached."""
LOCKED_S = 5.0
"""Seconds between attempts to record what became of a job while the database cannot be written."""
QUICK_S = 0.4
"""A picture that takes no longer than this is shown at once, without any progress."""
EDIT_EVERY_S = 1.0
"""Seconds between two edits of a card while few cards are live; more of them share what Discord allows."""
SHARE_OF_STANDING = 0.1
"""Share of the time spent on updating a shared card: each edit uploads the finished pictures again."""
BY_RIGHT_EVERY_S = 60.0
"""Seconds between two edits once the interaction's token has expired."""
OLD_S = 3600.0
"""Discord takes next to no edits of messages older than this (its error 30046); those are left for the end."""


class Follower:
    """Follows every order to its one end."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        dispatcher: Dispatcher,
        delivery: Delivery,
        endings: Endings,
        gallery: Gallery,
        background: Background,
    ) -> None:
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._delivery = delivery
        self._endings = endings
        self._gallery = gallery
        self._background = background

    def follow(
        self, jobs: Sequence[Job], tickets: Sequence[Ticket], *, card: int | None = None, noted: bool = False
    ) -> None:
        """Follow orders that are in the queue, and share a card if they are several, to their ends.

        ``card`` is the id of their card's message, if ``jobs`` do not have it; ``noted``: their rows do.
        """
        if card is not None:
            jobs = [replace(job, place=replace(job.place, message_id=card)) for job in jobs]
        for job, ticket in zip(jobs, tickets, strict=True):
            self._background.begin(f"job {job.id}", self._follow, job, ticket, new_card=None if noted else card)
        if jobs[0].comparison_id is not None:
            self._background.begin(f"card of {jobs[0].comparison_id}", self._keep_fresh, jobs[0], tickets)

    async def resume(self) -> None:
        """Take up what an earlier run left behind. Must be called before the bot can be reached: orders that come in
        meanwhile would be taken up as well."""
        for job in await self._jobs.undelivered():
            self._background.begin(f"job {job.id}", self._show_end, job)
        cards: dict[str, list[Job]] = {}
        for job in await self._jobs.wait_again():
            cards.setdefault(job.comparison_id or job.id, []).append(job)
        for jobs in cards.values():
            self.follow(jobs, [self._resume(job) for job in jobs])

    def _resume(self, job: Job) -> Ticket:
        return self._dispatcher.submit(
            job_id=job.id,
            owner=str(job.user_id),
            group=job.place.community,
            request=job.request,
            resumed=True,
            attempts=job.attempts,
        )

    async def _follow(self, job: Job, ticket: Ticket, *, new_card: int | None) -> None:
        """Events are recorded at once, while the card takes its time. The end is shown when no earlier edit is under
        way any more."""
        with speaking(job.place.locale):
            async with asyncio.TaskGroup() as group:
                if new_card is not None:
                    note = partial(self._jobs.set_message, [job], new_card)
                    group.create_task(_patiently(job, note), name=f"card of job {job.id}")
                group.create_task(self._note_attempts(job, ticket), name=f"attempts of job {job.id}")
                group.create_task(self._tell(job, ticket), name=f"progress of job {job.id}")
                await self._record(job, await ticket.outcome())
            await self._show_end(job)

    async def _note_attempts(self, job: Job, ticket: Ticket) -> None:
        """Record attempts as they change: what is drawn now may bring the whole bot down."""
        async for _ in ticket.changing_hands():
            note = partial(self._jobs.attempted, job.id, attempts=ticket.attempts, in_hand=ticket.in_hand)
            await _patiently(job, note)

    async def _tell(self, job: Job, ticket: Ticket) -> None:
        """Keep the card up to date until the order has ended."""
        await ticket.rest(QUICK_S)
        note: str | None = None
        async for event in ticket.events():
            if ticket.settled or not isinstance(event, Standing):
                return
            note = retry_note(event) or note
            if job.comparison_id is None and not _is_old(job):  # ``_keep_fresh`` edits a shared card
                await self._delivery.show_progress(job, self._card(job, event, note or late_note(job, event)))
            await ticket.rest(self._pause_s(job))

    async def _keep_fresh(self, job: Job, tickets: Sequence[Ticket]) -> None:
        """Show, on the card that ``job`` shares with others, the state of those that have not ended."""
        with speaking(job.place.locale):
            shown: list[JobEvent | None] = []
            await asyncio.sleep(QUICK_S)
            while not all(ticket.settled for ticket in tickets) and not _is_old(job):
                news, began = [ticket.latest for ticket in tickets], time.monotonic()
                if news != shown:
                    await self._endings.show_standing(job.comparison_id or "")
                    shown = news
                await asyncio.sleep(max(self._pause_s(job), (time.monotonic() - began) / SHARE_OF_STANDING))

    def _pause_s(self, job: Job) -> float:
        """Seconds between two edits of a card."""
        return max(EDIT_EVERY_S if token_lives(job.place) else BY_RIGHT_EVERY_S, len(self._background) / 5)

    def _card(self, job: Job, event: Standing, note: str | None) -> Parcel:
        """The card before the end. It has previews where pictures like them would be shown plainly."""
        previews = event.progress.previews if isinstance(event, Running) else ()
        if self._endings.shown(job, previews) is not Showing.PLAIN:
            previews = ()
        files = tuple(Attachment(name=f"preview-{preview.index}.webp", content=preview.content) for preview in previews)
        urls = [f"attachment://{file.name}" for file in files]
        return Parcel(view=lambda: progress_card(job, event, note=note, previews=urls), files=files)

    async def _record(self, job: Job, outcome: Outcome) -> None:
        """From here on a restart shows the end, and never draws again."""
        match outcome:
            case Finished():
                if not await _patiently(job, partial(self._jobs.finish, job.id, outcome)):
                    await self._remove_pictures(job)
            case Failed(failure=failure):
                log.info("job %s failed: %s", job.id, describe(failure))
                await _patiently(job, partial(self._jobs.fail, job.id, told(failure)))
                await self._remove_pictures(job)
            case Cancelled():
                await _patiently(job, partial(self._jobs.cancel, job.id))
                await self._remove_pictures(job)

    async def _remove_pictures(self, job: Job) -> None:
        """Remove the files saved for an order that ended without pictures, or was deleted."""
        await self._gallery.remove(picture_id(job.id, index) for index in range(job.request.count))

    async def _show_end(self, job: Job) -> None:
        """Retry for as long as Discord is away or the database locked: what was drawn is shown when they are back."""
        with speaking(job.place.locale):
            while True:
                try:
                    await self._endings.show(job.id)
                except (DiscordAway, sqlite3.OperationalError) as error:
                    log.warning("job %s will be shown later: %s", job.id, error)
                    await asyncio.sleep(AWAY_S)
                else:
                    return


def _is_old(job: Job) -> bool:
    return time.time() - job.created_at > OLD_S


async def _patiently(job: Job, record: Callable[[], Awaitable[T]]) -> T:
    """Retry for as long as the database is locked or the disk full: what became of an order is recorded after that."""
    while True:
        try:
            return await record()
        except sqlite3.OperationalError as error:
            log.warning("job %s will be recorded later: %s", job.id, error)
            await asyncio.sleep(LOCKED_S)
