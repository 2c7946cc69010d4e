"""A new order as a job: who asked for it, where its card is, and by what right the card can be edited."""

from __future__ import annotations

import time
import uuid

import discord

from bot.store import Job, JobState, Origin, Place
from inference.contract import ImageRequest

TOKEN_LIFE_S = 15 * 60.0
"""Of an interaction, by Discord's rules."""


def job_from(
    interaction: discord.Interaction,
    request: ImageRequest,
    origin: Origin,
    *,
    message_id: int | None = None,
    parent_id: str | None = None,
) -> Job:
    """The job that ``interaction`` orders. Without ``message_id`` it has no card yet."""
    assert interaction.channel_id is not None
    place = Place(
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id,
        message_id=message_id,
        application_id=interaction.application_id,
        token=interaction.token,
        token_expires_at=time.time() + TOKEN_LIFE_S,
        attachment_size_limit=interaction.filesize_limit,
    )
    return Job(
        id=str(uuid.uuid4()),
        state=JobState.QUEUED,
        origin=origin,
        parent_id=parent_id,
        user_id=interaction.user.id,
        place=place,
        request=request,
        created_at=time.time(),
    )
