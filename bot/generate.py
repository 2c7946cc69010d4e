"""The one way from a wish to an order in the queue: check, acknowledge, store, submit.

Commands, buttons, menus and modals all come through here; ``following`` then follows the order to its end.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

import discord

from bot.delivery.delivery import NOBODY, TROUBLE
from bot.delivery.following import Follower
from bot.delivery.gallery import Gallery
from bot.ordering import flags, requests
from bot.ordering.access import (
    Refused,
    Showing,
    is_within,
    order_deleted,
    require_author_or_moderator,
    require_within,
)
from bot.ordering.comparing import Axes, labels, variants
from bot.ordering.flags import Options
from bot.ordering.limits import Limits
from bot.ordering.orders import asker, job_from, where
from bot.ordering.preferences import choose, visible
from bot.rules import Rules
from bot.store import Job, Jobs, Origin, Place, Preferences
from bot.ui.cards import accepted_card
from bot.ui.comparison_card import Compared, comparison_card
from bot.ui.replies import acknowledge, think
from bot.words import _
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import MAX_COUNT, MAX_SEED, ImageRequest, Variation
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.ticket import Ticket

log = logging.getLogger("bot.generate")


class Generator:
    """Takes orders; what cannot be drawn raises an exception, before anything is promised."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        jobs: Jobs,
        preferences: Preferences,
        dispatcher: Dispatcher,
        limits: Limits,
        follower: Follower,
        gallery: Gallery,
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._preferences = preferences
        self._dispatcher = dispatcher
        self._limits = limits
        self._follower = follower
        self._gallery = gallery

    async def imagine(self, interaction: discord.Interaction, options: Options) -> None:
        """A new order."""
        options = flags.merged(options)
        locked = self._preferences.locked_seed(interaction.user.id) if options.seed is None else None
        seed = _random_seed() if locked is None else locked
        request = self._request(interaction, options, seed=seed)
        self._check_room(interaction)
        card = await think(interaction)
        job = job_from(
            interaction,
            request,
            Origin.IMAGINE,
            message_id=card,
            spoiler=bool(options.spoiler),
            seed_locked=locked is not None,
        )
        self._follower.follow([job], await self._enqueue(interaction, [job]))

    async def remix(self, interaction: discord.Interaction, options: Options, *, parent_id: str | None) -> None:
        """An order based on an older one; everything is in ``options``."""
        options = flags.merged(options)
        request = self._request(interaction, options, seed=_random_seed())
        self._check_room(interaction)
        await acknowledge(interaction)
        parent = None if parent_id is None else await self._jobs.get(parent_id)
        origin = Origin.REMIX if parent is None else Origin.EDIT
        await self._order_again(interaction, request, origin, parent, spoiler=bool(options.spoiler))

    async def compare(self, interaction: discord.Interaction, options: Options, axes: Axes) -> None:
        """Several orders with one seed, shown on one card."""
        options = flags.merged(options)
        locked = self._preferences.locked_seed(interaction.user.id) if options.seed is None else None
        here, rules = where(interaction), self._preferences.rules(interaction.guild_id)
        found = variants(
            options,
            axes,
            self._catalog,
            find=lambda name: choose(name or options.model, here, self._preferences, self._catalog).entry,
            shown=self._comparable(options, rules) if axes == Axes() else (),
            seed=_random_seed() if locked is None else locked,
        )
        self._require_possible(rules, found)
        self._check_room(interaction, orders=len(found))
        card = await think(interaction)
        jobs = _together(interaction, found, card=card, spoiler=bool(options.spoiler))
        self._follower.follow(jobs, await self._enqueue(interaction, jobs))

    async def compare_again(self, interaction: discord.Interaction, comparison_id: str) -> None:
        """The same comparison with a new seed."""
        await acknowledge(interaction)
        jobs = await self._jobs.of_comparison(comparison_id)
        if not jobs:
            raise order_deleted()
        seed, rules = _random_seed(), self._preferences.rules(interaction.guild_id)
        found = [requests.reroll(job.request, self._catalog, seed=seed) for job in jobs]
        self._require_possible(rules, found)
        self._check_room(interaction, orders=len(found))
        again = _together(interaction, found, spoiler=jobs[0].spoiler)
        waiting = [
            Compared(job=job, label=label, media=None, shown=Showing.PLAIN)
            for job, label in zip(again, labels(found, self._catalog), strict=True)
        ]
        await self._order_with_card(interaction, again, comparison_card(waiting))

    async def cancel_comparison(self, interaction: discord.Interaction, comparison_id: str) -> None:
        """Cancel everything in a comparison that is unfinished; the card then says so by itself."""
        await acknowledge(interaction)
        jobs = await self._jobs.of_comparison(comparison_id)
        if not jobs:
            raise order_deleted()
        for job in jobs:
            require_author_or_moderator(job, asker(interaction), guild_id=interaction.guild_id)
        if not [job for job in jobs if self._dispatcher.cancel(job.id)]:
            raise Refused(_("This order has already finished."))

    async def reroll(self, interaction: discord.Interaction, job_id: str) -> None:
        """The same order with new seeds."""
        parent = await self._acknowledge(interaction, job_id)
        request = requests.reroll(parent.request, self._catalog, seed=_random_seed())
        await self._order_again(interaction, request, Origin.REROLL, parent)

    async def same_seed(self, interaction: discord.Interaction, job_id: str, *, only: int | None = None) -> None:
        """The same order again, to the pixel, or ``only`` the picture with this index."""
        parent = await self._acknowledge(interaction, job_id)
        drawn = await self._jobs.pictures(job_id)
        wanted = parent.request
        if only is not None:
            wanted, drawn = requests.alone(wanted, only), [picture for picture in drawn if picture.index == only]
        request = requests.same_seed(wanted, self._catalog, drawn=drawn)
        await self._order_again(interaction, request, Origin.SAME_SEED, parent)

    async def vary(self, interaction: discord.Interaction, job_id: str, *, index: int, strength: float) -> None:
        """Variations of the picture with this index, as many as an order may have here."""
        parent = await self._acknowledge(interaction, job_id)
        most = self._preferences.rules(interaction.guild_id).most_pictures or MAX_COUNT
        variation = Variation(seed=_random_seed(), strength=strength)
        request = requests.varied(
            parent.request, self._catalog, index=index, variation=variation, count=min(most, MAX_COUNT)
        )
        await self._order_again(interaction, request, Origin.VARIATION, parent)

    async def other_model(self, interaction: discord.Interaction, job_id: str, *, model: str) -> None:
        """The same prompt and seed, drawn by another model."""
        entry = choose(model, where(interaction), self._preferences, self._catalog).entry
        parent = await self._acknowledge(interaction, job_id)
        request = requests.other_model(parent.request, self._catalog, entry=entry)
        await self._order_again(interaction, request, Origin.OTHER_MODEL, parent)

    async def cancel(self, interaction: discord.Interaction, job_id: str) -> None:
        """Cancel an order; the card then says so by itself."""
        await acknowledge(interaction)
        job = await self.job(job_id)
        require_author_or_moderator(job, asker(interaction), guild_id=interaction.guild_id)
        if not self._dispatcher.cancel(job_id):
            raise Refused(_("This order has already finished."))

    async def forget(self, job: Job) -> list[Place]:
        """Cancel an order if it is unfinished, and remove everything of it except its card and the messages that show
        it once more; returns where the latter are.

        Its row goes first: the follower then finds none at the order's end, and shows nothing more of it.
        """
        reposts = await self._jobs.delete(job.id)
        self._dispatcher.cancel(job.id)
        await self._gallery.remove_unwanted(self._jobs)
        return reposts

    async def job(self, job_id: str) -> Job:
        """The job of a card; raises ``Refused`` if it was deleted."""
        job = await self._jobs.get(job_id)
        if job is None:
            raise order_deleted()
        return job

    def _comparable(self, options: Options, rules: Rules) -> list[ModelEntry]:
        """The models that could draw this immediately, within the server's limits. Looks at a few files of each, so it
        is quick."""

        def order(entry: ModelEntry) -> ImageRequest:
            return requests.imagine(replace(options, count=1), self._catalog, entry=entry, seed=0)

        here = [entry for entry in visible(rules, self._catalog) if self._catalog.on_disk(entry)]
        return [entry for entry in here if is_within(rules, order(entry))]

    def _request(self, interaction: discord.Interaction, options: Options, *, seed: int) -> ImageRequest:
        entry = choose(options.model, where(interaction), self._preferences, self._catalog).entry
        request = requests.imagine(options, self._catalog, entry=entry, seed=seed, variation_seed=_random_seed())
        self._require_possible(self._preferences.rules(interaction.guild_id), [request])
        return request

    def _require_possible(self, rules: Rules, orders: Iterable[ImageRequest]) -> None:
        """Raise ``Refused`` or ``InferenceError`` if an order is not allowed, or its model cannot be obtained."""
        for request in orders:
            require_within(rules, request, title=self._catalog.title_or_name(request.model))
            self._dispatcher.to_fetch(request)

    def _check_room(self, interaction: discord.Interaction, *, orders: int = 1) -> None:
        guild_id = interaction.guild_id
        self._limits.check(interaction.user.id, guild_id, self._preferences.rules(guild_id), orders=orders)

    async def _acknowledge(self, interaction: discord.Interaction, job_id: str) -> Job:
        """Refuse a press if there is no room, else acknowledge it before anything that waits; returns its card's job.

        It is acknowledged silently, so that a later refusal can still be ephemeral.
        """
        self._check_room(interaction)
        await acknowledge(interaction)
        return await self.job(job_id)

    async def _order_again(
        self,
        interaction: discord.Interaction,
        request: ImageRequest,
        origin: Origin,
        parent: Job | None,
        *,
        spoiler: bool | None = None,
    ) -> None:
        """An order that came from a card gets a card of its own."""
        rules = self._preferences.rules(interaction.guild_id)
        require_within(rules, request, title=self._catalog.title_or_name(request.model))
        covered = spoiler if spoiler is not None else parent is not None and parent.spoiler
        parent_id = None if parent is None else parent.id
        job = job_from(interaction, request, origin, parent_id=parent_id, spoiler=covered)
        await self._order_with_card(interaction, [job], accepted_card(job))

    async def _order_with_card(
        self, interaction: discord.Interaction, jobs: Sequence[Job], card: discord.ui.LayoutView
    ) -> None:
        """Enqueue the orders, send their card, and follow them whether or not that succeeded."""
        tickets = await self._enqueue(interaction, jobs)
        message_id = None
        try:
            message_id = (await interaction.followup.send(view=card, allowed_mentions=NOBODY, wait=True)).id
        except TROUBLE as error:
            log.info("job %s has no card yet: %s", jobs[0].id, error)
        except Exception:  # discord.py raises errors of many kinds for answers that it does not expect
            log.exception("it is not known whether the card of job %s was sent", jobs[0].id)
        noted = message_id is not None and await self._note_card(jobs, message_id)
        self._follower.follow(jobs, tickets, card=message_id, noted=noted)

    async def _note_card(self, jobs: Sequence[Job], message_id: int) -> bool:
        """Record at once where the card is: a bot that is stopped before it knows would send another one. False if that
        is not possible now, which is no reason not to draw."""
        try:
            await self._jobs.set_message(jobs, message_id)
        except sqlite3.OperationalError as error:
            log.warning("the card of job %s will be recorded later: %s", jobs[0].id, error)
            return False
        return True

    async def _enqueue(self, interaction: discord.Interaction, jobs: Sequence[Job]) -> list[Ticket]:
        """Insert the orders as rows, then submit them. If one of them does not get into the queue, none of them stays.

        The limits are checked last, and nothing is awaited from there until all are in the queue: presses made
        meanwhile count.
        """
        await self._jobs.add(*jobs)
        try:
            self._check_room(interaction, orders=len(jobs))
            tickets = [self._submit(job) for job in jobs]
            self._limits.ordered(interaction.user.id)
        except Exception:
            for job in jobs:
                self._dispatcher.cancel(job.id)
            for job in jobs:
                await self._jobs.delete(job.id)
            raise
        return tickets

    def _submit(self, job: Job) -> Ticket:
        return self._dispatcher.submit(
            job_id=job.id, owner=str(job.user_id), group=job.place.community, request=job.request
        )


def _together(
    interaction: discord.Interaction, orders: Iterable[ImageRequest], *, spoiler: bool, card: int | None = None
) -> list[Job]:
    """Jobs that share a card."""
    comparison_id = str(uuid.uuid4())
    return [
        job_from(interaction, request, Origin.COMPARE, message_id=card, spoiler=spoiler, comparison_id=comparison_id)
        for request in orders
    ]


def _random_seed() -> int:
    return random.randint(0, MAX_SEED)
