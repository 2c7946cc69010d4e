"""How a job's final card is made: what the database says about the job, its files, and a way to the person. A card that
several orders share also shows the state of those that have not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import discord

from bot.delivery.attachments import Attachment
from bot.delivery.delivery import Delivery, Parcel
from bot.delivery.gallery import Gallery
from bot.delivery.lateness import late_note
from bot.ordering import requests
from bot.ordering.access import Judged, Refused, Showing, is_within, showing, showing_prompt
from bot.ordering.comparing import labels
from bot.ordering.orders import place_of
from bot.ordering.preferences import visible
from bot.rules import Rules
from bot.store import Job, Jobs, JobState, Origin, Place, Preferences, StoredPicture
from bot.ui.cards import Finish, cancelled_card, failed_card, finished_card, not_taken, withheld_card
from bot.ui.comparison_card import Compared, comparison_card
from bot.words import _, speaking
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import ALL_READ, ImageRequest, Standing
from inference.errors import InferenceError

REQUEST_LIMIT = 24 * 2**20
"""Maximum bytes of all files of one message together; Discord takes 25 MiB a request."""


class Endings:
    """Shows settled jobs, the same way whether they ended just now or before a restart."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        jobs: Jobs,
        preferences: Preferences,
        gallery: Gallery,
        delivery: Delivery,
        standing: Callable[[], Mapping[str, Standing]],
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._preferences = preferences
        self._gallery = gallery
        self._delivery = delivery
        self._standing = standing
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A shared card is built and shown by one order at a time, so that the last version has all of them."""

    async def show(self, job_id: str) -> None:
        """Deliver the final card of a settled job, and record that it was delivered, and where."""
        job = await self._jobs.get(job_id)
        if job is not None:
            turn = self._turns.setdefault(job.comparison_id or job.id, asyncio.Lock())
            async with turn:
                await self._show(job_id)

    async def show_standing(self, comparison_id: str) -> None:
        """Show the orders' states on the card that they share. If an end was not shown yet, showing it will do that."""
        turn = self._turns.setdefault(comparison_id, asyncio.Lock())
        async with turn:
            jobs = await self._jobs.of_comparison(comparison_id)
            if jobs and not any(job.state.ended and job.delivered_at is None for job in jobs):
                await self._delivery.show_progress(jobs[0], await self._comparison(jobs))

    async def _show(self, job_id: str) -> None:
        """The job is looked up once it is its turn: another one on the same card may just have had to send it anew,
        with this one's end on it."""
        job = await self._jobs.get(job_id)
        if job is None or job.delivered_at is not None:  # deleted by its owner meanwhile, or shown already
            return
        beside = await self._ended_beside(job)
        place = await self._delivery.show_end(job, await self.parcel(job), wanted=lambda: self._jobs.exists(job_id))
        if place is not None and place != job.place:
            await self._jobs.moved(job, place)
            if place.channel_id == job.place.channel_id:  # else the old card says what became of it
                await self._delivery.remove_cards([job.place])
            if await self._is_gone(job):  # deleted while it was on its way
                await self._delivery.remove_cards([place])
        await self._jobs.delivered(job_id, missed=place is None)
        if place is not None:
            for other in beside:
                await self._jobs.delivered(other.id)

    async def _ended_beside(self, job: Job) -> list[Job]:
        """The orders that are shown as ended if the card of ``job`` is built from now on."""
        if job.comparison_id is None:
            return []
        return [other for other in await self._jobs.of_comparison(job.comparison_id) if other.state.ended]

    async def take_down(self, job: Job, reposts: Iterable[Place]) -> None:
        """Remove the card of a deleted order from chat, and messages that show it once more; a card that others share
        is shown without it."""
        turn = self._turns.setdefault(job.comparison_id or job.id, asyncio.Lock())
        async with turn:
            others = [] if job.comparison_id is None else await self._jobs.of_comparison(job.comparison_id)
            if others:
                with speaking(others[0].place.locale):
                    await self._delivery.show_progress(others[0], await self.parcel(others[0]))
        await self._delivery.remove_cards(reposts if others else [job.place, *reposts])

    async def _is_gone(self, job: Job) -> bool:
        """Whether nothing is left of what its card shows."""
        if job.comparison_id is not None:
            return not await self._jobs.of_comparison(job.comparison_id)
        return not await self._jobs.exists(job.id)

    async def parcel(self, job: Job, *, alone: bool = False) -> Parcel:
        """The final card of ``job`` with its files; ``alone``: without the orders that it was compared with."""
        if job.comparison_id is not None and not alone:
            return await self._comparison(await self._jobs.of_comparison(job.comparison_id))
        match job.state:
            case JobState.FAILED:
                return Parcel(view=lambda: failed_card(job))
            case JobState.CANCELLED:
                return Parcel(view=lambda: cancelled_card(job))
            case _:
                return await self._pictures(job)

    def shown(self, job: Job, pictures: Sequence[Judged]) -> Showing:
        """How the pictures of ``job`` are shown at its place."""
        return showing(job, pictures, self._preferences.rules(job.place.guild_id), self._catalog.get(job.request.model))

    def ruled(self, job: Job, pictures: Sequence[Judged]) -> Showing:
        """How the rules of its place alone would have them shown, disregarding what their owner wanted."""
        return self.shown(replace(job, spoiler=False), pictures)

    async def require_readable(self, interaction: discord.Interaction, jobs: Sequence[Job]) -> None:
        """Raise ``Refused`` if this place shows the prompt of ``jobs``, which share a card, only to their owner."""
        for job in jobs:
            here = replace(job, place=place_of(interaction))
            shown = self.shown(here, await self._jobs.pictures(job.id))
            if shown is Showing.WITHHELD and job.user_id != interaction.user.id:
                raise Refused(_("Only the person who ordered this can see what was asked for."))

    async def _pictures(self, job: Job) -> Parcel:
        pictures = await self._jobs.pictures(job.id)
        entry = self._catalog.get(job.request.model)
        shown = self.shown(job, pictures)
        words = showing_prompt(self.ruled(job, pictures), pictures)
        if shown is Showing.WITHHELD:
            return Parcel(view=lambda: withheld_card(job))
        limit = min(job.place.attachment_size_limit, REQUEST_LIMIT // max(1, len(pictures)))
        files = await asyncio.gather(*(self._gallery.attachment(picture.id, limit=limit) for picture in pictures))
        found = [(picture, file) for picture, file in zip(pictures, files, strict=True) if file is not None]
        if not found:
            gone = _("The pictures are no longer on this machine, but their seeds are: you can draw them again.")
            return Parcel(view=lambda: failed_card(replace(job, failure=gone), words=words))
        finish = Finish(
            pictures=tuple(picture for picture, _file in found),
            media=tuple(f"attachment://{file.name}" for _picture, file in found),
            entry=entry,
            identical=await self._identical(job, pictures),
            covered=shown is Showing.COVERED,
            words=words,
            others=await asyncio.to_thread(self._others, job),
        )
        return Parcel(
            view=lambda: finished_card(job, finish),
            files=tuple(file for _picture, file in found),
            without_files=lambda: failed_card(replace(job, failure=not_taken()), words=words),
        )

    async def _comparison(self, jobs: Sequence[Job]) -> Parcel:
        """The card that several orders share, with the pictures of those that have ended."""
        standing = self._standing()
        drawn = [await self._jobs.pictures(job.id) if job.state is JobState.DONE else [] for job in jobs]
        ruled = (showing_prompt(self.ruled(job, found), found) for job, found in zip(jobs, drawn, strict=True))
        words = max(ruled, key=lambda one: one.value, default=Showing.PLAIN)
        named = labels([job.request for job in jobs], self._catalog, words=words is Showing.PLAIN)
        compared: list[Compared] = []
        files: list[Attachment] = []
        for job, pictures, label in zip(jobs, drawn, named, strict=True):
            shown = self.shown(job, pictures)
            file = None
            if pictures and shown is not Showing.WITHHELD:
                limit = min(job.place.attachment_size_limit, REQUEST_LIMIT // len(jobs))
                file = await self._gallery.attachment(pictures[0].id, limit=limit)
            files += [file] if file else []
            media = f"attachment://{file.name}" if file else None
            unread = pictures[0].unread if pictures else ALL_READ
            event = standing.get(job.id)
            compared.append(Compared(job=job, label=label, media=media, shown=shown, unread=unread, event=event))
        notes = (late_note(one.job, one.event) for one in compared if one.event is not None)
        note = next(filter(None, notes), None)
        bare = [replace(one, media=None) for one in compared]
        return Parcel(
            view=lambda: comparison_card(compared, words=words, note=note),
            files=tuple(files),
            without_files=lambda: comparison_card(bare, words=words, note=not_taken()),
        )

    async def _identical(self, job: Job, pictures: Sequence[StoredPicture]) -> bool | None:
        """Whether an order for the same pictures, or one of them, reproduced them; None if nothing can be compared."""
        if job.origin is not Origin.SAME_SEED or job.parent_id is None:
            return None
        parents = await self._jobs.pictures(job.parent_id)
        first = {(picture.seed, picture.variation_seed): picture.pixels_sha256 for picture in parents}
        if not first:
            return None
        return all(first.get((p.seed, p.variation_seed)) == p.pixels_sha256 for p in pictures)

    def _others(self, job: Job) -> tuple[ModelEntry, ...]:
        """The models that could draw the same. Blocks: it looks at the disk."""
        rules = self._preferences.rules(job.place.guild_id)
        others = (e for e in visible(rules, self._catalog) if e.name != job.request.model)
        return tuple(e for e in others if self._may_draw(e, job.request, rules) and self._catalog.on_disk(e))

    def _may_draw(self, entry: ModelEntry, request: ImageRequest, rules: Rules) -> bool:
        """Whether ``entry`` can draw the same, and the rules allow the size and the steps that it would take."""
        try:
            return is_within(rules, requests.other_model(request, self._catalog, entry=entry))
        except InferenceError:
            return False
