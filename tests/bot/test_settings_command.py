"""``/settings``: the managers of a server give the bot its rules, and nobody else does."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.rules import Rules
from tests.bot.studio import Studio, menu_of, said


@pytest.fixture
def boss(studio: Studio) -> Any:
    """Somebody who manages the server."""
    guild = studio.channel.guild
    role = guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    return guild.add_member(studio.env.create_user("boss"), roles=[role])


async def imagine(studio: Studio, **options: Any) -> str:
    """What ann is answered to an order, or nothing where it is drawn."""
    return said(await studio.ann.slash(studio.channel, "imagine", **{"prompt": "a fox", **options}))


@pytest.mark.parametrize("restarted", [False, True])
async def test_limits_are_kept_until_they_are_taken_away(studio: Studio, boss: Any, restarted: bool) -> None:
    shown = await boss.slash(studio.channel, "settings limits", side=48, steps=2, pictures=1, waiting=1)
    assert shown.ephemeral
    for line in ("per person: 1", "pixels: 48", "Steps per picture: 2", "Pictures per order: 1"):
        assert line in said(shown)
    if restarted:
        await studio.restart()
    assert "may exceed 48 pixels" in await imagine(studio)
    assert "fewer steps: this server allows at most 2" in await imagine(studio, aspect="48x48", steps=3)
    assert "fewer pictures: this server allows at most 1" in await imagine(studio, aspect="48x48", steps=2, count=2)
    await boss.slash(studio.channel, "settings limits", side=0, steps=0, pictures=0)
    await imagine(studio, count=2)
    await studio.pictures(count=2)


async def test_a_picture_is_varied_as_often_as_an_order_may_have_pictures(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings limits", pictures=2)
    await imagine(studio)
    await studio.pictures()
    card = studio.cards()[0]
    await studio.ann.select(card, values=["vary_a_little:0"], custom_id=menu_of(card, "one_of"))
    await studio.pictures(index=1, count=2)


async def test_a_card_from_before_obeys_as_well(studio: Studio, boss: Any) -> None:
    await imagine(studio)
    await studio.pictures()
    await boss.slash(studio.channel, "settings limits", side=48)
    assert "may exceed 48 pixels" in said(await studio.ann.click(studio.cards()[0], label="Reroll"))


async def test_one_person_may_have_few_orders_waiting(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings limits", waiting=1)
    await imagine(studio, prompt="wait")
    await studio.card(saying="Drawing")
    await imagine(studio)
    refusal = await imagine(studio)
    assert "this server's limit of waiting orders per person (1)" in refusal
    assert "/cancel" in refusal


async def test_models_are_hidden_and_brought_back(studio: Studio, boss: Any) -> None:
    assert "Hidden models: guided" in said(await boss.slash(studio.channel, "settings hide", model="guided"))
    assert "not available on this server" in await imagine(studio, model="guided")
    offered = await boss.autocomplete(studio.channel, "settings allow", "model", "")
    assert offered == [{"name": "With guidance", "value": "guided"}]
    assert "Hidden models: –" in said(await boss.slash(studio.channel, "settings allow", model="With guidance"))
    await imagine(studio, model="guided")
    await studio.pictures()


async def test_mistakes_with_models_are_named(studio: Studio, boss: Any) -> None:
    assert "no model “nope”" in said(await boss.slash(studio.channel, "settings hide", model="nope"))
    assert "“quick” is not hidden" in said(await boss.slash(studio.channel, "settings allow", model="quick"))
    assert "at least one limit" in said(await boss.slash(studio.channel, "settings limits")).lower()
    for model in ("quick", "guided"):
        await boss.slash(studio.channel, "settings hide", model=model)
    assert "must stay visible" in said(await boss.slash(studio.channel, "settings hide", model="absent"))


async def test_the_servers_model_is_chosen_here_too(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings model", name="guided")
    assert "Model: guided" in said(await boss.slash(studio.channel, "settings show"))
    assert "Manage Server" in said(await studio.ann.slash(studio.channel, "model use", name="quick", scope="server"))
    await imagine(studio)
    await studio.card(saying="With guidance")


async def test_everyone_may_choose_a_channels_model_where_the_server_says_so(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings channel-models", who="everyone")
    assert "draws in this channel" in said(
        await studio.ann.slash(studio.channel, "model use", name="guided", scope="channel")
    )


@pytest.mark.parametrize(("policy", "shown"), [("block", False), ("spoiler", True), ("allow", True)])
async def test_unchecked_pictures_are_shown_as_the_server_wants(
    studio: Studio, boss: Any, policy: str, shown: bool
) -> None:
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    await imagine(studio, model="guided")
    await studio.all_delivered()
    card = studio.cards()[-1]
    assert bool(card.attachments) is shown
    if shown:
        [gallery] = [i for i in card.components[0].to_dict()["components"] if i["type"] == 12]
        assert gallery["items"][0]["spoiler"] is (policy == "spoiler")
    else:
        await studio.card(saying="does not show pictures that may be explicit")


async def test_a_model_that_cannot_draw_such_things_is_never_covered(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings explicit", policy="block")
    await imagine(studio)
    await studio.pictures()


async def test_a_picture_is_covered_where_its_owner_wants(studio: Studio) -> None:
    await imagine(studio, spoiler=True)
    await studio.pictures()
    [gallery] = [i for i in studio.cards()[-1].components[0].to_dict()["components"] if i["type"] == 12]
    assert gallery["items"][0]["spoiler"]


async def test_what_is_said_of_many_hidden_models_fits_into_an_answer(studio: Studio, boss: Any) -> None:
    names = frozenset(f"{number:02}" + "_" * 100 for number in range(80))
    await studio.store.preferences.set_rules(studio.channel.guild.id, Rules(hidden_models=names))
    assert "and 65 more" in said(await boss.slash(studio.channel, "settings show"))


async def test_everything_is_reset(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings limits", side=48)
    await boss.slash(studio.channel, "settings reset")
    assert "pixels: the bot's own limit" in said(await boss.slash(studio.channel, "settings show"))


async def test_discord_is_told_who_may(studio: Studio) -> None:
    command = next(command for command in studio.bot.tree.get_commands() if command.name == "settings")
    assert command.to_dict(studio.bot.tree)["contexts"] == [0]
    assert command.default_permissions == discord.Permissions(manage_guild=True)
