"""Who may do what, and what may be shown where."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import discord
import pytest

from bot.ordering.access import (
    Asker,
    Refused,
    Showing,
    require_author_or_moderator,
    require_may_choose,
    require_within,
    showing,
)
from bot.rules import ChannelModels, Explicit, Rules, Scope
from inference.catalog import Catalog
from tests.bot.conftest import a_job
from tests.bot.test_cards import pictures_of

NOTHING = discord.Permissions.none()
STRANGER = Asker(user_id=2, permissions=NOTHING)
MODERATOR = Asker(user_id=2, permissions=discord.Permissions(manage_messages=True))


def test_the_author_may() -> None:
    require_author_or_moderator(a_job(user_id=1), Asker(user_id=1, permissions=NOTHING), guild_id=1)


def test_a_moderator_may() -> None:
    require_author_or_moderator(a_job(user_id=1), MODERATOR, guild_id=1)


def test_a_stranger_may_not_and_is_told_who_may() -> None:
    with pytest.raises(Refused, match="or a moderator"):
        require_author_or_moderator(a_job(user_id=1), STRANGER, guild_id=1)


def test_a_moderator_of_another_server_may_not() -> None:
    with pytest.raises(Refused):
        require_author_or_moderator(a_job(user_id=1), MODERATOR, guild_id=99)


@pytest.mark.parametrize(
    ("scope", "permissions", "everyone", "allowed"),
    [
        (Scope.USER, NOTHING, False, True),
        (Scope.CHANNEL, NOTHING, False, False),
        (Scope.CHANNEL, NOTHING, True, True),
        (Scope.CHANNEL, discord.Permissions(manage_channels=True), False, True),
        (Scope.SERVER, discord.Permissions(manage_channels=True), True, False),
        (Scope.SERVER, discord.Permissions(manage_guild=True), False, True),
    ],
)
def test_who_may_choose_a_model_for_whom(
    scope: Scope, permissions: discord.Permissions, everyone: bool, allowed: bool
) -> None:
    rules = Rules(channel_models=ChannelModels.EVERYONE if everyone else ChannelModels.MODERATORS)
    with nullcontext() if allowed else pytest.raises(Refused, match="permission"):
        require_may_choose(scope, Asker(user_id=2, permissions=permissions), rules, guild_id=1)


def test_outside_of_servers_people_choose_for_themselves_alone() -> None:
    require_may_choose(Scope.USER, STRANGER, Rules(), guild_id=None)
    with pytest.raises(Refused, match="do it on that server"):
        require_may_choose(Scope.CHANNEL, MODERATOR, Rules(), guild_id=None)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(hidden_models=frozenset({"quick"})), "“Quick one” is not available on this server"),
        (Rules(largest_side=32), "may exceed 32 pixels"),
        (Rules(most_steps=3), "fewer steps: this server allows at most 3"),
        (Rules(most_pictures=1), "fewer pictures: this server allows at most 1"),
    ],
)
def test_a_servers_rules_are_kept(rules: Rules, words: str) -> None:
    with pytest.raises(Refused, match=words):
        require_within(rules, a_job(count=2).request, title="Quick one")
    require_within(Rules(), a_job(count=2).request, title="Quick one")


@pytest.mark.parametrize(
    ("explicit", "verdict", "harmless", "age_restricted", "shown"),
    [
        (Explicit.SPOILER, None, False, False, Showing.COVERED),
        (Explicit.SPOILER, None, True, False, Showing.PLAIN),
        (Explicit.SPOILER, False, False, False, Showing.PLAIN),
        (Explicit.SPOILER, True, True, False, Showing.COVERED),
        (Explicit.BLOCK, True, False, False, Showing.WITHHELD),
        (Explicit.BLOCK, None, False, False, Showing.WITHHELD),
        (Explicit.BLOCK, True, False, True, Showing.PLAIN),
        (Explicit.ALLOW, True, False, False, Showing.PLAIN),
    ],
)
def test_what_may_be_explicit_is_shown_as_the_server_wants(
    catalog: Catalog, explicit: Explicit, verdict: bool | None, harmless: bool, age_restricted: bool, shown: Showing
) -> None:
    job = a_job()
    job = replace(job, place=replace(job.place, age_restricted=age_restricted))
    entry = replace(catalog["quick"], harmless=harmless)
    pictures = [replace(picture, explicit=verdict) for picture in pictures_of(job)]
    assert showing(job, pictures, Rules(explicit=explicit), entry) is shown
    wished = Showing.COVERED if shown is Showing.PLAIN else shown
    assert showing(replace(job, spoiler=True), pictures, Rules(explicit=explicit), entry) is wished
