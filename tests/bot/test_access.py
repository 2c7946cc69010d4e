"""Who may do what to a job."""

from __future__ import annotations

import discord
import pytest

from bot.access import Refused, require_author_or_moderator
from tests.bot.conftest import a_job

NOTHING = discord.Permissions.none()


def test_the_author_may() -> None:
    require_author_or_moderator(a_job(user_id=1), user_id=1, permissions=NOTHING)


def test_a_moderator_may() -> None:
    require_author_or_moderator(a_job(user_id=1), user_id=2, permissions=discord.Permissions(manage_messages=True))


def test_a_stranger_may_not_and_is_told_who_may() -> None:
    with pytest.raises(Refused, match="or a moderator"):
        require_author_or_moderator(a_job(user_id=1), user_id=2, permissions=NOTHING)
