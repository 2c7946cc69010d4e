"""What Delete does: to the message on which it was requested, and to the orders behind it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import discord

from bot.ordering.access import not_their_own
from bot.store import Job
from bot.ui.components import mentions
from bot.words import _

if TYPE_CHECKING:
    from bot.client import PictureBot


async def press_delete(interaction: discord.Interaction[PictureBot], jobs: Sequence[Job]) -> None:
    """What the button on a card does. The interaction is already acknowledged."""
    assert interaction.message is not None
    stays = await withdraw(interaction, interaction.message, jobs)
    with suppress(discord.NotFound):  # pressed twice
        await interaction.delete_original_response()
    if stays is not None:
        none = discord.AllowedMentions.none()
        await interaction.followup.send("🗑️ " + stays, ephemeral=True, allowed_mentions=none)


async def withdraw(
    interaction: discord.Interaction[PictureBot], message: discord.Message, jobs: Sequence[Job]
) -> str | None:
    """Delete the orders behind a card; the caller removes the ``message``.

    Only their owner can delete them, and not from a message that merely shows a single order once more. Otherwise they
    stay, and the returned sentence says so. Empty ``jobs`` mean that the card has outlived its orders. Raises
    ``Refused`` for people who own neither the orders nor the message and do not moderate the channel.
    """
    bot = interaction.client
    if not jobs:
        _require_may_remove(interaction, message, is_leftover=True)
        return None
    if any(job.user_id != interaction.user.id for job in jobs):
        _require_may_remove(interaction, message)
        await bot.store.jobs.not_posted(message.id)
        person = f"<@{jobs[0].user_id}>"
        return _("The message is gone. What was drawn is still in {person}'s `/history`.", person=person)
    elsewhere = [job for job in jobs if job.place.message_id != message.id]
    if elsewhere and len(jobs) == 1:
        await bot.store.jobs.not_posted(message.id)
        return _("The message is gone. The picture stays in your `/history`, where **Delete** removes it for good.")
    left = [job.place for job in elsewhere[:1]]  # a comparison whose card was sent again
    for job in jobs:
        left += await bot.generator.forget(job)
    bot.background.begin(f"cards of {jobs[0].id}", bot.delivery.remove_cards, left)
    return None


def _require_may_remove(
    interaction: discord.Interaction[PictureBot], message: discord.Message, *, is_leftover: bool = False
) -> None:
    """Raise ``Refused`` unless this person had the message posted, may manage messages here, or is named by a leftover
    as its owner. Outside of servers nobody moderates: leftovers there may be removed by anyone."""
    asked = message.interaction_metadata
    in_server = interaction.guild_id is not None
    may = interaction.permissions.manage_messages if in_server else is_leftover
    was_theirs = is_leftover and mentions(message, interaction.user.id)
    if not may and not was_theirs and (asked is None or asked.user.id != interaction.user.id):
        raise not_their_own()
