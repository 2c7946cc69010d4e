"""A new order as a job: who asked for it, where its card is, and by what right the card can be edited."""

from __future__ import annotations

import time
import uuid

import discord

from bot.ordering.access import Asker
from bot.ordering.preferences import Where
from bot.store import Job, JobState, Origin, Place
from inference.contract import ImageRequest

TOKEN_LIFE_S = 15 * 60.0
"""Lifetime of an interaction's token, by Discord's rules."""


def job_from(
    interaction: discord.Interaction,
    request: ImageRequest,
    origin: Origin,
    *,
    message_id: int | None = None,
    parent_id: str | None = None,
    spoiler: bool = False,
    seed_locked: bool = False,
    comparison_id: str | None = None,
) -> Job:
    """The job that ``interaction`` orders. Without ``message_id`` it has no card yet."""
    return Job(
        id=str(uuid.uuid4()),
        state=JobState.QUEUED,
        origin=origin,
        parent_id=parent_id,
        user_id=interaction.user.id,
        place=place_of(interaction, message_id=message_id),
        request=request,
        created_at=time.time(),
        spoiler=spoiler,
        seed_locked=seed_locked,
        comparison_id=comparison_id,
    )


def place_of(interaction: discord.Interaction, *, message_id: int | None = None) -> Place:
    """Where the answer to ``interaction`` lives."""
    assert interaction.channel_id is not None
    return Place(
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id,
        message_id=message_id,
        application_id=interaction.application_id,
        token=interaction.token,
        token_expires_at=time.time() + TOKEN_LIFE_S,
        attachment_size_limit=interaction.filesize_limit,
        locale=str(interaction.locale),
        member=_is_member(interaction),
        age_restricted=is_age_restricted(interaction),
    )


def where(interaction: discord.Interaction) -> Where:
    """Who asks, and where: what the choice of a model depends on."""
    channel = interaction.channel
    channel_id = channel.parent_id if isinstance(channel, discord.Thread) else interaction.channel_id
    return Where(user_id=interaction.user.id, channel_id=channel_id, guild_id=interaction.guild_id)


def asker(interaction: discord.Interaction) -> Asker:
    """Who asks, and what they may do."""
    return Asker(user_id=interaction.user.id, permissions=interaction.permissions)


def _is_member(interaction: discord.Interaction) -> bool:
    """Whether the bot itself is a member here. An application that only a person has installed is a guest."""
    if interaction.guild_id is not None:
        return interaction.client.get_guild(interaction.guild_id) is not None
    return interaction.context.dm_channel


def is_age_restricted(interaction: discord.Interaction) -> bool:
    """Whether Discord shows this channel only to adults."""
    is_nsfw = getattr(interaction.channel, "is_nsfw", None)
    return is_nsfw is not None and bool(is_nsfw())
