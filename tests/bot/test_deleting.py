"""What goes when somebody wants a card gone, by its button or under Apps: the message, or its pictures as well."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.delivery import delivery
from tests.bot.studio import Studio, delete_newest, menu_of, said, text_of, until


async def drawn(studio: Studio, *, seed: int = 7) -> discord.Message:
    """A card of ann's with its picture."""
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", seed=seed)
    await studio.pictures()
    await studio.all_delivered()
    return studio.cards()[-1]


async def compared(studio: Studio) -> discord.Message:
    """The card of a comparison of ann's."""
    await studio.ann.slash(studio.channel, "compare", prompt="a fox", models="quick, guided", seed=7)
    await studio.pictures(count=2)
    await studio.all_delivered()
    return studio.cards()[-1]


async def posted_again(studio: Studio) -> discord.Message:
    """A second message with a card of ann's."""
    await drawn(studio)
    shown = (await studio.ann.slash(studio.channel, "history")).response
    await studio.ann.select(shown, values=["post_again"], custom_id=menu_of(shown, "history_act"))
    await studio.pictures(index=1)
    return studio.cards()[1]


async def taken_out(studio: Studio) -> discord.Message:
    """A card of its own for one of ann's compared pictures, which ben wanted."""
    card = await compared(studio)
    await studio.ben.select(card, [(await studio.jobs())[1].id], custom_id=menu_of(card, "go_on"))
    await studio.pictures(index=1)
    return studio.cards()[1]


async def delete(studio: Studio, who: Any, card: discord.Message, *, by: str) -> Any:
    if by == "menu":
        return await who.context_menu(studio.channel, "Delete", card)
    return await who.click(card, label="Delete")


def file_count(studio: Studio) -> int:
    return len(list(studio.settings.pictures_dir.glob("*.png")))


@pytest.mark.parametrize("by", ["button", "menu"])
@pytest.mark.parametrize("make", [drawn, compared])
async def test_a_moderator_takes_the_message_and_the_pictures_stay_with_their_owner(
    studio: Studio, make: Any, by: str
) -> None:
    card = await make(studio)
    orders = len(await studio.jobs())
    told = await delete(studio, studio.mod, card, by=by)
    assert studio.cards() == []
    assert f"is still in <@{studio.ann.id}>'s" in said(told)
    assert len(await studio.jobs()) == file_count(studio) == orders
    shown = (await studio.ann.slash(studio.channel, "history")).response
    assert len(shown.attachments) == orders


@pytest.mark.parametrize("by", ["button", "menu"])
async def test_of_a_card_posted_again_only_the_message_goes(studio: Studio, by: str) -> None:
    again = await posted_again(studio)
    told = await delete(studio, studio.ann, again, by=by)
    assert "stays in your `/history`" in said(told)
    assert len(studio.cards()) == len(await studio.jobs()) == file_count(studio) == 1
    assert (await studio.store.people.get(studio.ann.id)).reposts == ()


@pytest.mark.parametrize("by", ["button", "menu"])
@pytest.mark.parametrize(("who", "gone"), [("ann", True), ("ben", True), ("mod", True), ("stranger", False)])
async def test_a_picture_out_of_a_comparison_is_taken_away_by_whoever_wanted_it_and_stays_in_the_comparison(
    studio: Studio, who: str, gone: bool, by: str
) -> None:
    own = await taken_out(studio)
    stranger = studio.channel.guild.add_member(studio.env.create_user("stranger"))
    told = await delete(studio, stranger if who == "stranger" else getattr(studio, who), own, by=by)
    assert len(studio.cards()) == (1 if gone else 2)
    assert ("or a moderator" in said(told)) is not gone
    assert len(await studio.jobs()) == file_count(studio) == 2
    studio.env.errors.clear()


async def test_who_had_it_posted_takes_away_what_outlived_its_order(studio: Studio) -> None:
    card = await taken_out(studio)
    await studio.store.people.forget(studio.ann.id)
    await delete(studio, studio.ben, card, by="button")
    assert card.id not in [shown.id for shown in studio.cards()]


@pytest.mark.parametrize("make", [posted_again, taken_out])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("how", ["history", "button", "privacy"])
async def test_what_shows_an_order_once_more_goes_with_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, make: Any, how: str, restarted: bool
) -> None:
    monkeypatch.setattr(delivery, "PACE_S", 0.01)
    await make(studio)
    if restarted:
        await studio.restart()
    if how == "history":
        shown = (await studio.ann.slash(studio.channel, "history")).response
        for _order in await studio.jobs():
            shown = await delete_newest(studio.ann, shown)
    elif how == "button":
        await delete(studio, studio.ann, studio.cards()[0], by="button")
    else:
        asked = (await studio.ann.slash(studio.channel, "privacy delete")).response
        await studio.ann.click(asked, label="Delete everything")
    await until(lambda: studio.cards() == [], studio._what_is_there)
    assert await studio.jobs() == []


@pytest.mark.parametrize("make", [drawn, compared, posted_again, taken_out])
@pytest.mark.parametrize(("who", "gone"), [("ann", True), ("mod", True), ("stranger", False)])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_card_that_outlived_its_orders_goes_by_its_button(
    studio: Studio, make: Any, who: str, gone: bool, restarted: bool
) -> None:
    card = await make(studio)
    stranger = studio.channel.guild.add_member(studio.env.create_user("stranger"))
    await studio.store.people.forget(studio.ann.id)
    if restarted:
        await studio.restart()
    await delete(studio, stranger if who == "stranger" else getattr(studio, who), card, by="button")
    assert (card.id in [shown.id for shown in studio.cards()]) is not gone


async def test_where_the_bot_is_a_guest_the_token_takes_the_card_away(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio.bot, "get_guild", lambda _guild_id: None)
    studio.env.inject_error(
        "DELETE", "/channels/*/messages/*", status=403, code=50001, message="Missing Access", times=None
    )
    await drawn(studio)
    shown = (await studio.ann.slash(studio.channel, "history")).response
    await delete_newest(studio.ann, shown)
    await until(lambda: studio.cards() == [], studio._what_is_there)


async def test_what_is_deleted_in_the_history_leaves_the_comparison_and_its_card_goes_with_the_last(
    studio: Studio,
) -> None:
    await compared(studio)
    shown = (await studio.ann.slash(studio.channel, "history")).response
    rest = await delete_newest(studio.ann, shown)
    await studio.pictures(count=1)
    [left] = await studio.jobs()
    assert ("Quick" if left.request.model == "quick" else "With guidance") in text_of(studio.cards()[0])
    await delete_newest(studio.ann, rest)
    await until(lambda: studio.cards() == [], studio._what_is_there)


@pytest.mark.parametrize("by", ["button", "menu"])
async def test_a_comparison_whose_card_was_sent_anew_goes_from_both_places(studio: Studio, by: str) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided", seed=7)
    [old] = studio.cards()
    custom_id = f"delete_comparison:{(await studio.jobs())[0].comparison_id}"
    row = {"type": 1, "components": [{"type": 2, "style": 2, "label": "Delete", "custom_id": custom_id}]}
    studio.env.backend.get_message(studio.channel.id, old.id).components = [row]
    for path in ("/webhooks/*", f"/channels/*/messages/{old.id}"):
        for method in ("PATCH", "DELETE"):
            studio.env.inject_error(method, path, status=403, code=50001, message="Missing Access", times=None)
    studio.let_go()
    await studio.all_delivered()
    studio.env.backend.faults.clear()
    assert [len(card.attachments) for card in studio.cards()] == [0, 2]
    await delete(studio, studio.ann, studio.cards()[0], by=by)
    await until(lambda: studio.cards() == [], studio._what_is_there)
    assert await studio.jobs() == []
