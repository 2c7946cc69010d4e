"""The one way from a wish to a picture in chat: check, acknowledge, make it durable, queue it, follow it to its end.

Commands, buttons and modals all come through here. Orders are followed by tasks of ``run``, never by the task that
answers an interaction: what follows an order outlives the click that made it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import discord

from bot import requests
from bot.access import Refused, require_author_or_moderator
from bot.cards import accepted_card, progress_card, retry_note
from bot.delivery import NOBODY, Delivery, DiscordAway
from bot.endings import Endings
from bot.gallery import Gallery
from bot.orders import job_from
from bot.requests import Options
from bot.store import Job, Jobs, Origin
from inference.catalog import Catalog
from inference.contract import (
    MAX_SEED,
    Cancelled,
    Failed,
    Finished,
    ImageRequest,
    Outcome,
    Retrying,
    Running,
    Waiting,
    picture_id,
)
from inference.dispatcher import Dispatcher
from inference.errors import InferenceError, describe
from inference.ticket import Ticket

log = logging.getLogger("bot.generate")

AWAY_S = 60.0
"""Between attempts to show a job's end while Discord cannot be reached."""
QUICK_S = 0.4
"""A picture that takes no longer than this is shown at once, without a word about its progress."""
EDIT_EVERY_S = 1.0
"""Between two edits of one card, when few cards are live; more of them share what Discord allows."""


class Generator:
    """Takes orders and sees every one to its one end."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        jobs: Jobs,
        dispatcher: Dispatcher,
        delivery: Delivery,
        endings: Endings,
        gallery: Gallery,
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._delivery = delivery
        self._endings = endings
        self._gallery = gallery
        self._accepted: asyncio.Queue[tuple[Job, Ticket | None]] = asyncio.Queue()
        self._live = 0

    # -- what people do; a refusal is an exception ---------------------------------------------------------------------

    async def imagine(self, interaction: discord.Interaction, options: Options) -> None:
        """A new order."""
        request = requests.imagine(options, self._catalog, random_seed=_random_seed())
        self._dispatcher.check_room(str(interaction.user.id))
        card = await _think(interaction)
        job = job_from(interaction, request, Origin.IMAGINE, message_id=card)
        self._accepted.put_nowait((job, await self._enqueue(job)))

    async def reroll(self, interaction: discord.Interaction, job_id: str) -> None:
        """The same order with new seeds."""
        parent = await self._acknowledge(interaction, job_id)
        request = requests.reroll(parent.request, self._catalog, random_seed=_random_seed())
        await self._order_again(interaction, request, Origin.REROLL, parent)

    async def same_seed(self, interaction: discord.Interaction, job_id: str) -> None:
        """The same order once more, to the pixel."""
        parent = await self._acknowledge(interaction, job_id)
        pictures = await self._jobs.pictures(job_id)
        bucket = pictures[0].bucket if pictures else None
        request = requests.same_seed(parent.request, self._catalog, bucket=bucket)
        await self._order_again(interaction, request, Origin.SAME_SEED, parent)

    async def edit(self, interaction: discord.Interaction, job_id: str, *, prompt: str) -> None:
        """Another prompt, the same seed."""
        parent = await self._acknowledge(interaction, job_id)
        request = requests.edited(parent.request, self._catalog, prompt=prompt)
        await self._order_again(interaction, request, Origin.EDIT, parent)

    async def cancel(self, interaction: discord.Interaction, job_id: str) -> None:
        """Take an order back; the card then says so by itself."""
        await interaction.response.defer()
        job = await self.job(job_id)
        require_author_or_moderator(job, user_id=interaction.user.id, permissions=interaction.permissions)
        if not self._dispatcher.cancel(job_id):
            raise Refused("This order is finished already.")

    async def delete(self, interaction: discord.Interaction, job_id: str) -> None:
        """Remove the card, the pictures and every trace of the order."""
        await interaction.response.defer()
        job = await self.job(job_id)
        require_author_or_moderator(job, user_id=interaction.user.id, permissions=interaction.permissions)
        self._dispatcher.cancel(job_id)
        await self._gallery.remove(await self._jobs.delete(job_id))
        await interaction.delete_original_response()

    async def job(self, job_id: str) -> Job:
        """The job of a card; raises ``Refused`` if it was deleted."""
        job = await self._jobs.get(job_id)
        if job is None:
            raise Refused("This order was deleted; there is nothing left to work with.")
        return job

    # -- from acknowledged to queued -----------------------------------------------------------------------------------

    async def _acknowledge(self, interaction: discord.Interaction, job_id: str) -> Job:
        """Refuse a press when there is no room, else answer it before all that could wait; returns its card's job.

        The answer is a silent one: a refusal that comes later can then be told to one person alone.
        """
        self._dispatcher.check_room(str(interaction.user.id))
        await interaction.response.defer()
        return await self.job(job_id)

    async def _order_again(
        self, interaction: discord.Interaction, request: ImageRequest, origin: Origin, parent: Job
    ) -> None:
        """An order that came from a card gets a card of its own, once it is in the queue."""
        job = job_from(interaction, request, origin, parent_id=parent.id)
        ticket = await self._enqueue(job)
        try:
            card = await interaction.followup.send(view=accepted_card(job), allowed_mentions=NOBODY, wait=True)
        except discord.HTTPException as error:
            log.info("job %s has no card yet: %s", job.id, error)
        else:
            await self._jobs.set_message(job.id, card.id)
            job = replace(job, place=replace(job.place, message_id=card.id))
        self._accepted.put_nowait((job, ticket))

    async def _enqueue(self, job: Job) -> Ticket:
        """The order is a row before it is in the queue."""
        await self._jobs.add(job)
        try:
            return self._dispatcher.submit(job_id=job.id, owner=str(job.user_id), request=job.request)
        except InferenceError:
            await self._jobs.delete(job.id)
            raise

    # -- following -----------------------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take up what an earlier run left behind. To be called before the bot can be reached: an order that comes in
        meanwhile would be taken up as well."""
        for job in await self._jobs.undelivered():
            self._accepted.put_nowait((job, None))
        for job in await self._jobs.unfinished():
            ticket = self._dispatcher.submit(job_id=job.id, owner=str(job.user_id), request=job.request, resumed=True)
            self._accepted.put_nowait((job, ticket))

    async def run(self) -> None:
        """See every order to its end: those taken up, and every one that comes."""
        async with asyncio.TaskGroup() as group:
            while True:
                job, ticket = await self._accepted.get()
                work = self._show_end(job) if ticket is None else self._follow(job, ticket)
                group.create_task(self._guarded(job, work))

    async def _guarded(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """One order's trouble is not everybody's; it stays in the database and is taken up at the next start."""
        self._live += 1
        try:
            await work
        except Exception:
            log.exception("job %s could not be seen to its end", job.id)
        finally:
            self._live -= 1

    async def _follow(self, job: Job, ticket: Ticket) -> None:
        await ticket.rest(QUICK_S)
        note: str | None = None
        noted_running = False
        async for event in ticket.events():
            match event:
                case Waiting() | Running() | Retrying():
                    note = retry_note(event) or note
                    if isinstance(event, Running) and not noted_running:
                        await self._jobs.running(job.id)
                        noted_running = True
                    await self._delivery.show_progress(job, progress_card(job, event, note=note))
                    await ticket.rest(max(EDIT_EVERY_S, self._live / 5))
                case Finished() | Failed() | Cancelled():
                    await self._conclude(job, event)

    async def _conclude(self, job: Job, outcome: Outcome) -> None:
        """Record the end before it is shown: from here on a restart shows it, and never draws again."""
        match outcome:
            case Finished():
                if not await self._jobs.finish(job.id, outcome):
                    await self._gallery.remove(picture.id for picture in outcome.pictures)
            case Failed(failure=failure):
                await self._jobs.fail(job.id, describe(failure))
            case Cancelled():
                await self._jobs.cancel(job.id)
                await self._gallery.remove(picture_id(job.id, index) for index in range(job.request.count))
        await self._show_end(job)

    async def _show_end(self, job: Job) -> None:
        """However long Discord is away: what was drawn is shown when it is back."""
        while True:
            try:
                await self._endings.show(job.id)
            except DiscordAway as error:
                log.warning("job %s is shown later, Discord is away: %s", job.id, error)
                await asyncio.sleep(AWAY_S)
            else:
                return


async def _think(interaction: discord.Interaction) -> int:
    """Answer “thinking…”; returns the message that says so."""
    response = await interaction.response.defer(thinking=True)
    if response is not None and response.message_id is not None:
        return response.message_id
    return (await interaction.original_response()).id


def _random_seed() -> int:
    return random.randint(0, MAX_SEED)
