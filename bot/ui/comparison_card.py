"""What a comparison looks like in chat: pictures side by side, as far as they are drawn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import discord
from discord import ui

from bot.ordering.access import Showing
from bot.ordering.comparing import parted
from bot.store import Job, JobState
from bot.ui.cards import BLUE, GREEN, Row, fitting, inert, layout, state_line, title_of, unread_lines
from bot.ui.deleting import press_delete
from bot.ui.items import ID, Pressable, VerbButton, chosen
from bot.ui.replies import acknowledge
from bot.words import N_, _
from inference.contract import ALL_READ, Standing, Unread
from inference.errors import shortened

if TYPE_CHECKING:
    from bot.client import PictureBot


LABEL_CHARACTERS, STATE_CHARACTERS = 40, 150
"""Maximum length of an order's label, and of its state or failure, so that nine fit on a card."""
ENDS_CHARACTERS = 350
"""Maximum length of all lines about unread parts of prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One order of a comparison; ``label`` tells it from the others, ``media`` is its picture's URL if there is one,
    ``unread`` what its model did not read of the prompts, ``event`` its state while it is unfinished."""

    job: Job
    label: str
    media: str | None
    shown: Showing
    unread: Unread = ALL_READ
    event: Standing | None = None


def comparison_card(
    compared: Sequence[Compared], *, words: Showing = Showing.PLAIN, note: str | None = None
) -> ui.LayoutView:
    """The finished pictures, what each of them is, and the state of the others.

    ``words``: how the rules that apply there show their prompts. ``note`` is for all of them.
    """
    first = compared[0].job
    ended = all(one.job.state.ended for one in compared)
    prompt, _middles = parted([one.job.request.prompt for one in compared])
    gallery = ui.MediaGallery[ui.LayoutView]()
    for one in compared:
        if one.media is not None:
            is_plain = words is Showing.PLAIN or (words is Showing.COVERED and one.shown is Showing.COVERED)
            said = f"{one.label}: {one.job.request.prompt}" if is_plain else one.label
            gallery.add_item(media=one.media, description=said[:1024], spoiler=one.shown is Showing.COVERED)
    lines = [
        f"{_digit(number)} {inert(one.label, LABEL_CHARACTERS)}{_state(one)}" for number, one in enumerate(compared)
    ]
    if note:
        lines.append(f"-# {note}")
    facts = _("seed {seed}", seed=f"`{first.request.seed}`") + f" · {first.request.width}×{first.request.height}"
    rows: list[Row] = []
    if ended and words is not Showing.WITHHELD and any(one.media for one in compared):
        rows.append([GoOn(first.comparison_id or "", compared)])
    buttons: list[VerbButton] = [] if words is Showing.WITHHELD else [CompareAgain(first.comparison_id or "")]
    if not ended:
        buttons.append(CancelComparison(first.comparison_id or ""))
    rows.append([*buttons, DeleteComparison(first.comparison_id or "")])
    return layout(
        GREEN if ended else BLUE,
        [title_of(first, words, prompt=prompt), *lines, *fitting(_unread(compared, words), ENDS_CHARACTERS)],
        gallery=gallery if gallery.items else None,
        footer=f"-# {facts}",
        rows=rows,
    )


class CompareAgain(VerbButton, template=rf"compare_again:{ID}"):
    verb, emoji, words = "compare_again", "🎲", N_("Reroll")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """Compare with a new seed."""
        await interaction.client.generator.compare_again(interaction, self.subject)


class CancelComparison(VerbButton, template=rf"cancel_comparison:{ID}"):
    verb, emoji, words = "cancel_comparison", "✖️", N_("Cancel")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """Cancel what is unfinished; finished pictures stay."""
        await interaction.client.generator.cancel_comparison(interaction, self.subject)


class DeleteComparison(VerbButton, template=rf"delete_comparison:{ID}"):
    verb, emoji, words = "delete_comparison", "🗑️", N_("Delete")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """Delete everything that was compared, and the card."""
        await acknowledge(interaction)
        await press_delete(interaction, await interaction.client.store.jobs.of_comparison(self.subject))


class GoOn(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"go_on:{ID}"):
    """Gives one of the compared pictures a card of its own."""

    def __init__(self, comparison_id: str, compared: Sequence[Compared] = ()) -> None:
        self.comparison_id = comparison_id
        options = [
            discord.SelectOption(label=one.label[:100], value=one.job.id, emoji=_digit(number))
            for number, one in enumerate(compared)
            if one.media is not None
        ]
        super().__init__(
            ui.Select(custom_id=f"go_on:{comparison_id}", placeholder=_("Continue with one of them…"), options=options)
        )

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """Show the chosen one with all its buttons."""
        bot, [job_id] = interaction.client, chosen(interaction)
        await acknowledge(interaction)
        await bot.endings.require_readable(interaction, await bot.store.jobs.of_comparison(self.comparison_id))
        await bot.history.post(interaction, job_id)


def _digit(number: int) -> str:
    return f"{number + 1}\ufe0f\u20e3"


def _unread(compared: Sequence[Compared], words: Showing) -> list[str]:
    """What was not read; orders with the same unread part share a line."""
    by_end: dict[Unread, str] = {}
    for number, one in enumerate(compared):
        by_end[one.unread] = by_end.get(one.unread, "") + _digit(number)
    return [line.replace("-# ", f"-# {digits} ") for end, digits in by_end.items() for line in unread_lines(end, words)]


def _state(one: Compared) -> str:
    match one.job.state:
        case JobState.QUEUED | JobState.RUNNING:
            return " " + ("⏳" if one.event is None else shortened(state_line(one.event), STATE_CHARACTERS))
        case JobState.FAILED:
            return f" ⚠️ {shortened(one.job.failure or '', STATE_CHARACTERS)}"
        case JobState.CANCELLED:
            return " · " + _("Cancelled.")
        case _:
            return " 🚫" if one.shown is Showing.WITHHELD else ""


ALL = (CompareAgain, CancelComparison, DeleteComparison, GoOn)
