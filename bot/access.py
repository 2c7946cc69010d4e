"""Who may do what to a job: pure."""

from __future__ import annotations

import discord

from bot.store import Job


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """Something that this person cannot have; the message is for them."""


def require_author_or_moderator(job: Job, *, user_id: int, permissions: discord.Permissions) -> None:
    """Raise ``Refused`` unless the order is this person's or they may manage messages here."""
    if job.user_id != user_id and not permissions.manage_messages:
        raise Refused("Only the person who ordered this, or a moderator, can do that.")
