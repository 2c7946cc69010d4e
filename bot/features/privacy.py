"""What ``/privacy`` does: give a person all that the bot holds about them, or forget it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

import discord

from bot.background import Background
from bot.delivery.delivery import NOBODY, Delivery, within_reach
from bot.delivery.endings import REQUEST_LIMIT
from bot.delivery.gallery import Gallery
from bot.features import export
from bot.ordering.access import Refused
from bot.store import Jobs, People, Person
from bot.ui.cards import GREY, RED, layout
from bot.ui.items import VerbButton
from bot.ui.replies import acknowledge, think
from bot.words import N_, _
from inference.dispatch.dispatcher import Dispatcher

if TYPE_CHECKING:
    from bot.client import PictureBot

MOST_PARTS = 5
"""Maximum parts in one answer: where the bot is a guest, Discord takes no more messages for one command."""
PERSON = r"(?P<id>\d{1,20})"
"""The person whom a button is for, in its custom id."""


class Privacy:
    """Answers the subcommands of ``/privacy``, to the person alone."""

    def __init__(
        self,
        *,
        people: People,
        jobs: Jobs,
        gallery: Gallery,
        dispatcher: Dispatcher,
        delivery: Delivery,
        background: Background,
    ) -> None:
        self._people = people
        self._jobs = jobs
        self._gallery = gallery
        self._dispatcher = dispatcher
        self._delivery = delivery
        self._background = background
        self._exporting: set[int] = set()
        """The people who are being sent their data."""

    async def export(self, interaction: discord.Interaction, *, first: int) -> None:
        """Answer with ZIP files from part ``first`` (counted from 1) on, one message each; one answer at a time."""
        user_id = interaction.user.id
        if user_id in self._exporting:
            raise Refused(_("Your last export is still on its way. Wait until all its parts are here."))
        self._exporting.add(user_id)
        try:
            await self._export(interaction, first=first)
        finally:
            self._exporting.remove(user_id)

    async def _export(self, interaction: discord.Interaction, *, first: int) -> None:
        await think(interaction, ephemeral=True)
        person = await self._known(interaction.user.id)
        limit = min(interaction.filesize_limit, REQUEST_LIMIT)
        parts = await asyncio.to_thread(export.plan, person, self._gallery, limit=limit)
        if first > len(parts):
            raise Refused(_("Your data has {count} parts; there is no part {part}.", count=len(parts), part=first))
        last = min(first + MOST_PARTS - 1, len(parts))
        for number in range(first, last + 1):
            text = _part_line(number, len(parts), is_last=number == last)
            await _send_part(interaction, parts[number - 1], number, text, limit=limit)

    async def ask(self, interaction: discord.Interaction) -> None:
        """Say what would be forgotten, and ask whether to do it."""
        await think(interaction, ephemeral=True)
        person = await self._known(interaction.user.id)
        view = layout(RED, _warning(person), rows=[[Forget(str(person.user_id)), Keep(str(person.user_id))]])
        await interaction.edit_original_response(view=view, allowed_mentions=NOBODY)

    async def forget(self, interaction: discord.Interaction, user_id: int) -> None:
        """Forget a person: the rows first, in one transaction, so that a bot killed here comes back without them."""
        _require_same(interaction, user_id)
        await acknowledge(interaction)
        person = await self._people.forget(user_id)
        for job in person.unfinished:
            self._dispatcher.cancel(job.id)
        await self._gallery.remove_unwanted(self._jobs)
        shown = [*(job.place for job in person.jobs), *person.reposts]
        cards = {place.message_id: place for place in shown if place.message_id is not None}
        near = [place for place in cards.values() if within_reach(place)]
        self._background.begin(f"{len(near)} cards of somebody forgotten", self._delivery.remove_cards, near)
        view = layout(GREY, _forgotten(person, removed=len(near), kept=len(cards) - len(near)), rows=[])
        await interaction.edit_original_response(view=view, allowed_mentions=NOBODY)

    async def keep(self, interaction: discord.Interaction, user_id: int) -> None:
        """Withdraw the question."""
        _require_same(interaction, user_id)
        view = layout(GREY, [_("Nothing was deleted.")], rows=[])
        await interaction.response.edit_message(view=view, allowed_mentions=NOBODY)

    async def _known(self, user_id: int) -> Person:
        person = await self._people.get(user_id)
        if not person:
            raise Refused(_("I have no data about you: no orders, no pictures, no seeds, no choices."))
        return person


class Forget(VerbButton, template=rf"forget_me:{PERSON}"):
    """Yes, delete everything."""

    verb, words = "forget_me", N_("Delete everything")
    style = discord.ButtonStyle.danger

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.privacy.forget(interaction, int(self.subject))


class Keep(VerbButton, template=rf"keep_me:{PERSON}"):
    """No."""

    verb, words = "keep_me", N_("Keep everything")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.privacy.keep(interaction, int(self.subject))


def _require_same(interaction: discord.Interaction, user_id: int) -> None:
    if interaction.user.id != user_id:
        raise Refused(_("This question was asked of somebody else. To delete your own data, use `/privacy delete`."))


async def _send_part(
    interaction: discord.Interaction, items: Iterable[export.Item], number: int, text: str, *, limit: int
) -> None:
    """Pack and send one part. Meanwhile it is kept on disk: memory is for pictures."""
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(export.write, items, file, limit=limit)
        file.seek(0)
        part = discord.File(file, filename=f"pictures-{number}.zip")
        await interaction.followup.send(text, file=part, ephemeral=True, allowed_mentions=NOBODY, wait=True)


def _part_line(number: int, count: int, *, is_last: bool) -> str:
    text = "📦 " + _("Part {number} of {count}", number=number, count=count)
    if is_last and number < count:
        text += "\n" + _("For the next parts, use `/privacy export part:{next}`.", next=number + 1)
    return text


def _warning(person: Person) -> list[str]:
    return [
        "⚠️ **" + _("This will permanently delete:") + "**",
        *(f"- {line}" for line in _counted(person)),
        _("I will remove your cards from chat wherever I can. Anything that others drew from yours stays theirs."),
        "-# " + _("To get a copy of everything first, use `/privacy export`."),
    ]


def _counted(person: Person) -> list[str]:
    """What there is, one line each."""
    waiting = len(person.unfinished)
    lines = [
        (len(person.jobs), _("orders: {count}", count=len(person.jobs))),
        (waiting, _("orders among these that are unfinished and will not be drawn: {count}", count=waiting)),
        (len(person.pictures), _("pictures: {count}", count=len(person.pictures))),
        (len(person.seeds), _("seeds in your seed book: {count}", count=len(person.seeds))),
        (person.locked_seed is not None, _("your locked seed, {seed}", seed=person.locked_seed)),
        (person.model is not None, _("your choice of model, {model}", model=person.model)),
        (
            len(person.choices) - bool(person.model),
            _("the record that you chose a model for a channel or a server (the model stays chosen)"),
        ),
    ]
    return [line for count, line in lines if count]


def _forgotten(person: Person, *, removed: int, kept: int) -> list[str]:
    """What was deleted, how many cards are being ``removed``, and how many are out of reach."""
    if not person:
        return [_("There was nothing left to delete.")]
    lines = ["🗑️ **" + _("Deleted:") + "**", *(f"- {line}" for line in _counted(person))]
    if removed:
        lines.append(_("Your cards are being removed from chat: {count}", count=removed))
    if kept:
        lines.append(_("Cards that I cannot remove, because I am only a guest there: {count}", count=kept))
    if removed or kept:
        lines.append("-# " + _("If a card is left behind, press **Delete** on it."))
    return lines
