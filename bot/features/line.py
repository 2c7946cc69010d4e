"""What ``/queue`` and ``/cancel`` do: show what is drawn, who waits and what is in memory, and cancel orders."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import discord
from discord import app_commands, ui

from bot.delivery.delivery import NOBODY
from bot.ordering.access import Refused, is_author_or_moderator
from bot.ordering.orders import asker
from bot.store import Job, Jobs
from bot.ui.cards import TITLE_CHARACTERS, fitting, inert, state_line
from bot.ui.replies import think
from bot.ui.suggestions import choices
from bot.words import _
from inference.catalog import Catalog
from inference.contract import Downloading, Standing, Waiting
from inference.dispatch.dispatcher import Dispatcher

MOST_LINES = 20
"""Maximum orders listed on one card."""
LINES_CHARACTERS = 2500
"""Maximum length of all these lines together; a card has 4000 characters."""
MOST_RESIDENT = 10
"""Maximum models in memory that are named."""
MOST_CANCELLED = 10
"""Maximum prompts in one answer, which has 2000 characters."""
HOUR_S = 3600.0
ALL_OF_MINE = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An unfinished order and its state."""

    job: Job
    event: Standing

    @property
    def place(self) -> int:
        """0 for orders being drawn, then the position in line; last are those waiting for their model."""
        match self.event:
            case Waiting(position=position):
                return position
            case Downloading():
                return sys.maxsize
            case _:
                return 0

    @property
    def mark(self) -> str:
        """Its state, as short as possible."""
        return "☁️" if isinstance(self.event, Downloading) else str(self.place or "🎨")


class Line:
    """Answers ``/queue`` and ``/cancel``."""

    def __init__(self, *, catalog: Catalog, jobs: Jobs, dispatcher: Dispatcher) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._dispatcher = dispatcher

    async def show(self, interaction: discord.Interaction) -> None:
        """Answer with the queue as it is now. Orders from places that this person cannot see are only counted."""
        await think(interaction, ephemeral=True)
        found = await self._open()
        here = [order for order in found if _may_see(order.job, interaction)]
        lines = fitting([self._line(order) for order in here[:MOST_LINES]], LINES_CHARACTERS)
        if more := len(here) - len(lines):
            lines.append("-# " + _("and {count} more", count=more))
        if elsewhere := len(found) - len(here):
            lines.append("-# " + _("{count} from elsewhere", count=elsewhere))
        heading = "**" + _("Queue") + "**"
        container = ui.Container[ui.LayoutView]()
        container.add_item(ui.TextDisplay("\n".join([heading, *(lines or [_("Nobody is waiting.")])])))
        container.add_item(ui.Separator())
        container.add_item(ui.TextDisplay("\n".join(await self._machine())))
        view = ui.LayoutView(timeout=None)
        view.add_item(container)
        await interaction.edit_original_response(view=view, allowed_mentions=NOBODY)

    async def cancel(self, interaction: discord.Interaction, order: str | None) -> None:
        """Cancel the named order, all of one's own, or by default one's newest."""
        await think(interaction, ephemeral=True)
        found = await self._open()
        mine = [open_.job for open_ in found if open_.job.user_id == interaction.user.id]
        if order == ALL_OF_MINE:
            chosen = mine
        elif order is None:
            chosen = sorted(mine, key=lambda job: job.created_at)[-1:]
        else:
            chosen = [open_.job for open_ in found if open_.job.id == order and _may(open_.job, interaction)]
        if not chosen:
            raise Refused(_("There is nothing to cancel: no such order is waiting or being drawn."))
        gone = [job for job in chosen if self._dispatcher.cancel(job.id)]
        lines = [f"- {inert(job.request.prompt, 80)}" for job in gone[:MOST_CANCELLED]]
        if len(gone) > MOST_CANCELLED:
            lines.append("-# " + _("and {count} more", count=len(gone) - MOST_CANCELLED))
        said = "\n".join([_("Cancelled: {count}", count=len(gone)), *lines])
        await interaction.edit_original_response(content=said, allowed_mentions=NOBODY)

    async def suggest(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        """The orders that this person may cancel and that match what was typed."""
        found = [order for order in await self._open() if _may(order.job, interaction)]
        labels = [(f"{order.mark} · {order.job.request.prompt}", order.job.id) for order in found]
        if sum(order.job.user_id == interaction.user.id for order in found) > 1:
            labels.insert(0, (_("All my orders"), ALL_OF_MINE))
        return choices(labels, typed)

    async def _open(self) -> list[Open]:
        standing = self._dispatcher.standing()
        jobs = await self._jobs.unfinished()
        found = [Open(job=job, event=standing[job.id]) for job in jobs if job.id in standing]
        return sorted(found, key=lambda order: (order.place, order.job.created_at))

    def _line(self, order: Open) -> str:
        request = order.job.request
        return f"{state_line(order.event)} · <@{order.job.user_id}> · {self._title(request.model)}"

    async def _machine(self) -> Iterable[str]:
        names = sorted(self._dispatcher.resident)
        resident = [self._title(name) for name in names[:MOST_RESIDENT]]
        if more := len(names) - len(resident):
            resident.append(_("and {count} more", count=more))
        drawn = await self._jobs.drawn_since(time.time() - HOUR_S)
        return [
            "⚡ " + _("in memory: {models}", models=" · ".join(resident) or _("nothing yet")),
            "📈 "
            + _("last hour · pictures: {pictures} · people: {people}", pictures=drawn.pictures, people=drawn.people),
        ]

    def _title(self, name: str) -> str:
        return inert(self._catalog.title_or_name(name), TITLE_CHARACTERS)


def _may_see(job: Job, interaction: discord.Interaction) -> bool:
    """Whether it is their own order, or they can read where its card is. The members of a private thread are not known
    here, so its orders are seen only from inside it."""
    if job.user_id == interaction.user.id or job.place.channel_id == interaction.channel_id:
        return True
    if interaction.guild is None or not isinstance(interaction.user, discord.Member):
        return False
    channel = interaction.guild.get_channel_or_thread(job.place.channel_id)
    if isinstance(channel, discord.Thread):
        channel = None if channel.is_private() else channel.parent
    return channel is not None and channel.permissions_for(interaction.user).view_channel


def _may(job: Job, interaction: discord.Interaction) -> bool:
    """Whether this person is the order's author or moderates its channel: permissions here say nothing about other
    channels, which they may not even see."""
    manages = interaction.permissions.manage_guild and _may_see(job, interaction)
    here = job.place.channel_id == interaction.channel_id or manages
    is_own = job.user_id == interaction.user.id
    return is_own or (here and is_author_or_moderator(job, asker(interaction), guild_id=interaction.guild_id))
