"""The buttons of a card, pressed by people: before and after a restart, by those who may and those who may not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import aiohttp
import discord
import pytest
import simcord
from simcord.http import router

from bot.delivery import following
from bot.ordering.access import Refused
from bot.rules import Rules
from bot.settings import Settings
from bot.store import JobState, Origin
from bot.ui.buttons import A_LITTLE, A_LOT
from inference.catalog import Catalog
from inference.catalog.entries import Family
from inference.contract import Adapter, Variation
from tests.bot.painter import pixels
from tests.bot.studio import (
    Studio,
    covers,
    images_of,
    labels_of,
    menu_of,
    open_studio,
    parts_of,
    text_of,
    until,
    walk,
)


async def drawn(studio: Studio, *, prompt: str = "a red apple", seed: int = 7, count: int = 1) -> discord.Message:
    """A card of ann's with its pictures."""
    await studio.ann.slash(studio.channel, "imagine", prompt=prompt, seed=seed, count=count)
    await studio.pictures(count=count)
    return studio.cards()[-1]


def file_count(studio: Studio) -> int:
    return len(list(studio.settings.pictures_dir.glob("*.png")))


@pytest.mark.parametrize("restarted", [False, True])
async def test_same_seed_gives_the_identical_picture_and_says_so(studio: Studio, restarted: bool) -> None:
    first = await drawn(studio, count=2)
    if restarted:
        await studio.restart()
    await studio.ben.click(first, label="Same seed")
    again = await studio.pictures(index=1, count=2)
    assert [picture.tobytes() for picture in again] == [picture.tobytes() for picture in await images_of(first)]
    assert "identical, pixel for pixel" in text_of(studio.cards()[1])
    parent, job = await studio.jobs()
    assert (job.origin, job.parent_id, job.user_id) == (Origin.SAME_SEED, parent.id, studio.ben.id)
    assert (job.request.bucket, job.request.guided_bucket) == (2, 2)


@pytest.mark.parametrize("restarted", [False, True])
async def test_reroll_draws_the_prompt_from_a_new_seed(studio: Studio, restarted: bool) -> None:
    first = await drawn(studio)
    if restarted:
        await studio.restart()
    await studio.ann.click(first, label="Reroll")
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() != pixels(7, 64, 64)
    assert "a red apple" in text_of(studio.cards()[1])
    assert "pixel for pixel" not in text_of(studio.cards()[1])


async def test_an_order_whose_card_meets_with_an_answer_that_nobody_expects_is_followed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await drawn(studio)

    def look(backend: simcord.Backend, method: str, path: str) -> None:
        if method == "POST" and path.startswith("/webhooks/"):
            raise TypeError("string indices must be integers, not 'str'")

    monkeypatch.setattr(router, "_check_faults", look)
    await studio.ann.click(first, label="Reroll")
    monkeypatch.undo()
    await until(lambda: len(studio.cards()) == 2, studio.env.transcript)
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() != pixels(7, 64, 64)


async def test_an_order_whose_card_cannot_be_noted_is_followed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOCKED_S", 0.1)
    first = await drawn(studio)
    async with studio.store._database.transaction() as connection:
        await connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(studio.settings.database_path, isolation_level=None)) as other:

        def look(backend: simcord.Backend, method: str, path: str) -> None:
            if method == "POST" and path.startswith("/webhooks/"):
                other.execute("BEGIN IMMEDIATE")

        monkeypatch.setattr(router, "_check_faults", look)
        await studio.ann.click(first, label="Reroll")
        other.rollback()
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    assert len(await studio.pictures(index=1)) == 1
    assert len(studio.cards()) == 2


@pytest.mark.parametrize("restarted", [False, True])
async def test_one_of_several_pictures_is_drawn_by_itself_to_the_pixel(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio, count=3)
    if restarted:
        await studio.restart()
    await studio.ben.select(card, values=["same_seed:2"], custom_id=menu_of(card, "one_of"))
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(9, 64, 64)
    assert "identical, pixel for pixel" in text_of(studio.cards()[1])
    parent, job = await studio.jobs()
    assert (job.origin, job.parent_id, job.user_id) == (Origin.SAME_SEED, parent.id, studio.ben.id)
    assert (job.request.count, job.request.seed) == (1, 9)
    assert (job.request.bucket, job.request.guided_bucket) == (4, 4), "the sizes of the passes it was drawn in"
    choices = choices_of(studio.cards()[1])
    assert choices == ["vary_a_little:0", "vary_a_lot:0"], "the buttons do the rest"


@pytest.mark.parametrize("restarted", [False, True])
async def test_one_of_several_pictures_is_edited(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio, count=2)
    if restarted:
        await studio.restart()
    shown = await studio.ann.select(card, values=["edit:1"], custom_id=menu_of(card, "one_of"))
    assert "--count 1" in fields_of(shown)["flags"]
    assert "--seed 8" in fields_of(shown)["flags"]
    await studio.ann.submit_modal(shown, {**fields_of(shown), "prompt": "a green pear"})
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(8, 64, 64)


def choices_of(card: discord.Message) -> list[str]:
    """What the menu of pictures offers."""
    [menu] = [part for part in walk([row.to_dict() for row in card.components]) if "options" in part][:1]
    return [option["value"] for option in menu["options"]]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("count", "choice", "seed", "strength"),
    [
        (1, "vary_a_little:0", 7, A_LITTLE),
        (3, "vary_a_lot:2", 9, A_LOT),
    ],
)
async def test_a_picture_is_varied(
    studio: Studio, restarted: bool, count: int, choice: str, seed: int, strength: float
) -> None:
    card = await drawn(studio, count=count)
    if restarted:
        await studio.restart()
    await studio.ben.select(card, values=[choice], custom_id=menu_of(card, "one_of"))
    pictures = await studio.pictures(index=1, count=4)
    parent, job = await studio.jobs()
    assert (job.origin, job.parent_id, job.user_id) == (Origin.VARIATION, parent.id, studio.ben.id)
    assert (job.request.seed, job.request.count) == (seed, 4)
    assert job.request.variation is not None
    assert job.request.variation.strength == strength
    variations = [job.request.picture_variation(index) for index in range(4)]
    assert [picture.tobytes() for picture in pictures] == [pixels(seed, 64, 64, varied) for varied in variations]
    assert f"strength {strength}" in text_of(studio.cards()[1])


async def test_a_menu_is_shown_anew_so_that_the_same_can_be_chosen_again(settings: Settings, catalog: Catalog) -> None:
    """Discord sends nothing when what looks chosen is chosen again, also after a refusal."""
    async with open_studio(replace(settings, cooldown_s=99), catalog) as studio:
        card = await drawn(studio)
        for who, words in ((studio.ben, None), (studio.ben, "Please wait")):
            sent = len(studio.env.http_requests)
            answer = await who.select(card, values=["vary_a_lot:0"], custom_id=menu_of(card, "one_of"))
            calls = studio.env.http_requests[sent:]
            assert [call.json["type"] for call in calls if call.path.endswith("/callback")] == [7]
            if words is not None:
                assert words in text_of(answer.followups[0])
                assert answer.followups[0].ephemeral


@pytest.mark.parametrize(("prompt", "words"), [("a green pear", None), ("  ", "The prompt is empty")])
async def test_a_menu_is_shown_anew_once_its_form_is_sent(studio: Studio, prompt: str, words: str | None) -> None:
    card = await drawn(studio, count=2)
    shown = await studio.ann.select(card, values=["edit:1"], custom_id=menu_of(card, "one_of"))
    sent = len(studio.env.http_requests)
    answer = await studio.ann.submit_modal(shown, {**fields_of(shown), "prompt": prompt})
    calls = studio.env.http_requests[sent:]
    assert [call.json["type"] for call in calls if call.path.endswith("/callback")] == [7]
    assert len(await images_of(studio.cards()[0])) == 2
    if words is None:
        await studio.pictures(index=1)
    else:
        assert words in answer.followups[0].content
        assert answer.followups[0].ephemeral


async def test_a_form_whose_card_was_deleted_meanwhile_is_an_order_all_the_same(studio: Studio) -> None:
    shown = await studio.ann.click(await drawn(studio), label="Edit")
    studio.env.inject_error("POST", "/interactions/*/callback", status=404, code=10008, message="Unknown Message")
    await studio.ann.submit_modal(shown, {**fields_of(shown), "prompt": "a green pear"})
    await studio.pictures(index=1)


async def test_a_bot_that_is_stopped_right_after_a_press_knows_its_card(studio: Studio) -> None:
    card = await drawn(studio)
    await studio.stop()
    await studio.ann.click(card, label="Same seed")
    await studio.restart()
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(7, 64, 64)
    await studio.all_delivered()
    assert len(studio.cards()) == 2


async def test_only_models_that_the_server_lets_draw_the_same_are_offered(studio: Studio) -> None:
    entry = studio.catalog["guided"]
    models = studio.catalog._models
    models["large"] = replace(entry, name="large", family=Family.SDXL, width=96, height=96)
    models["slow"] = replace(entry, name="slow", steps=replace(entry.steps, default=6))
    guild_id = studio.channel.guild.id
    try:
        assert set(others_of(await drawn(studio))) == {"guided", "large", "slow"}
        await studio.store.preferences.set_rules(guild_id, Rules(largest_side=64, most_steps=4))
        assert others_of(await drawn(studio)) == ["guided"]
        await studio.store.preferences.set_rules(guild_id, Rules(hidden_models=frozenset({"guided", "large", "slow"})))
        assert others_of(await drawn(studio)) == []
    finally:
        del models["large"], models["slow"]


def others_of(card: discord.Message) -> list[str]:
    """The models that a card's menu offers."""
    menus = [part for part in parts_of(card) if part.get("custom_id", "").startswith("other_model:")]
    return [option["value"] for menu in menus for option in menu["options"]]


async def test_a_variation_of_a_variation_is_one_of_the_same_seed(studio: Studio) -> None:
    card = await varied(studio)
    await studio.ann.select(card, values=["vary_a_lot:1"], custom_id=menu_of(card, "one_of"))
    await studio.pictures(index=1, count=4)
    request = (await studio.jobs())[1].request
    assert request.seed == 7
    assert request.variation is not None
    assert request.variation.strength == A_LOT


async def varied(studio: Studio) -> discord.Message:
    """A card of ann's with two variations."""
    return await drawn(studio, prompt="a red apple --vary 0.2 --vary-seed 77", count=2)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_variation_says_what_it_is_and_same_seed_gives_its_very_pictures(
    studio: Studio, restarted: bool
) -> None:
    card = await varied(studio)
    pictures = await images_of(card)
    assert [p.tobytes() for p in pictures] == [pixels(7, 64, 64, Variation(seed=s, strength=0.2)) for s in (77, 78)]
    assert "seed `7` · variations `77`, `78`, strength 0.2" in text_of(card)
    if restarted:
        await studio.restart()
    await studio.ben.click(card, label="Same seed")
    again = await studio.pictures(index=1, count=2)
    assert [picture.tobytes() for picture in again] == [picture.tobytes() for picture in pictures]
    assert "identical, pixel for pixel" in text_of(studio.cards()[1])


async def test_one_of_several_variations_is_drawn_by_itself_to_the_pixel(studio: Studio) -> None:
    card = await varied(studio)
    await studio.ben.select(card, values=["same_seed:1"], custom_id=menu_of(card, "one_of"))
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(7, 64, 64, Variation(seed=78, strength=0.2))
    assert "identical, pixel for pixel" in text_of(studio.cards()[1])
    assert "variation `78`, strength 0.2" in text_of(studio.cards()[1])


async def test_a_reroll_of_a_variation_draws_other_variations_of_the_same_picture(studio: Studio) -> None:
    card = await varied(studio)
    await studio.ann.click(card, label="Reroll")
    await studio.pictures(index=1, count=2)
    first, again = ((job.request.seed, job.request.variation) for job in await studio.jobs())
    assert (first[0], again[0]) == (7, 7)
    assert again[1] is not None
    assert (again[1].strength, again[1] != first[1]) == (0.2, True)


async def test_the_form_says_the_variation_and_it_is_kept(studio: Studio) -> None:
    shown = await studio.ann.click(await varied(studio), label="Edit")
    assert "--seed 7 --vary 0.2 --vary-seed 77" in fields_of(shown)["flags"]
    await studio.ann.submit_modal(shown, {**fields_of(shown), "prompt": "a green pear"})
    [picture, _second] = await studio.pictures(index=1, count=2)
    assert picture.tobytes() == pixels(7, 64, 64, Variation(seed=77, strength=0.2))


def fields_of(shown: Any) -> dict[str, str]:
    """What the form is filled in with."""
    fields = [label["component"] for label in shown.modal["components"]]
    return {field["custom_id"]: field.get("value") or "" for field in fields}


@pytest.mark.parametrize("restart", ["never", "before it opens", "while it is open"])
async def test_edit_offers_the_order_and_keeps_the_seed(studio: Studio, restart: str) -> None:
    first = await drawn(studio)
    if restart == "before it opens":
        await studio.restart()
    shown = await studio.ann.click(first, label="Edit")
    settings = "--model quick --ar 64x64 --count 1 --steps 4 --guidance 8 --seed 7"
    assert fields_of(shown) == {"prompt": "a red apple", "negative": "", "flags": settings}
    if restart == "while it is open":
        await studio.restart()
    await studio.ann.submit_modal(shown, {"prompt": "a green pear", "negative": "", "flags": settings})
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(7, 64, 64)
    assert "a green pear" in text_of(studio.cards()[1])


@pytest.mark.parametrize("way", ["button", "history", "menu"])
async def test_what_is_covered_stays_covered_when_it_is_edited(studio: Studio, way: str) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", spoiler=True)
    await studio.pictures()
    [card] = studio.cards()
    if way == "button":
        shown = await studio.ann.click(card, label="Edit")
    elif way == "menu":
        shown = await studio.ben.context_menu(studio.channel, "Remix this", card)
    else:
        history = (await studio.ann.slash(studio.channel, "history")).response
        shown = await studio.ann.select(history, values=["edit"], custom_id=menu_of(history, "history_act"))
    await (studio.ben if way == "menu" else studio.ann).submit_modal(shown, fields_of(shown))
    await studio.pictures(index=1)
    assert covers(studio.cards()[1]) == [True]


async def test_everything_can_be_edited(studio: Studio) -> None:
    shown = await studio.ann.click(await drawn(studio), label="Edit")
    said = {"prompt": "a pear", "negative": "worms", "flags": "--model guided --seed 9 --ar 2:1 --cfg 1.5"}
    await studio.ann.submit_modal(shown, said)
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(9, 88, 48)
    for words in ("a pear", "worms", "With guidance", "guidance 1.5"):
        assert words in text_of(studio.cards()[1])
    assert "no effect" not in text_of(studio.cards()[1])


async def test_flags_typed_into_the_forms_prompt_win_over_the_settings_that_it_came_with(studio: Studio) -> None:
    card = await drawn(studio, prompt="a pear --lora ink:1 --model guided")
    shown = await studio.ann.click(card, label="Edit")
    assert "--ar 64x64" in fields_of(shown)["flags"]
    typed = "a plum <lora:ink:0.5> --ar 2:1 --seed 9 --no blur"
    await studio.ann.submit_modal(shown, {**fields_of(shown), "prompt": typed, "negative": "worms"})
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(9, 88, 48)
    request = (await studio.jobs())[1].request
    assert (request.prompt, request.negative, request.model) == ("a plum", "worms, blur", "guided")
    assert request.adapters == (Adapter(name="ink", strength=0.5),)


@pytest.mark.parametrize(
    ("said", "words"),
    [("5", "Settings look like"), ("seed 5", "Settings look like"), ("--stylize 5", "I do not know")],
)
async def test_settings_that_are_none_are_refused(studio: Studio, said: str, words: str) -> None:
    shown = await studio.ann.click(await drawn(studio), label="Edit")
    refused = await studio.ann.submit_modal(shown, {"prompt": "a pear", "negative": "", "flags": said})
    assert refused.followups[0].ephemeral
    assert words in refused.followups[0].content
    assert len(studio.cards()) == 1


async def test_a_form_that_is_refused_is_given_back_as_one_prompt(studio: Studio) -> None:
    card = await drawn(studio)
    shown = await studio.ann.click(card, label="Edit")
    typed = {"prompt": "a pear " * 140, "negative": "worms", "flags": "--stylize 5"}
    refused = await studio.ann.submit_modal(shown, typed)
    assert f"```\n{'a pear ' * 140}--no worms --stylize 5\n```" in refused.followups[0].content
    shown = await studio.ann.click(card, label="Edit")
    refused = await studio.ann.submit_modal(shown, {**typed, "negative": "worms " * 166})
    assert len(refused.followups[0].content) <= 2000
    assert refused.followups[0].content.endswith("…\n```")


@pytest.mark.parametrize("restarted", [False, True])
async def test_another_model_draws_the_same_seed(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio)
    if restarted:
        await studio.restart()
    await studio.ann.select(card, values=["guided"], custom_id=menu_of(card, "other_model"))
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(7, 64, 64)
    assert "With guidance" in text_of(studio.cards()[1])
    assert "a red apple" in text_of(studio.cards()[1])


async def test_an_edit_to_an_empty_prompt_is_refused_to_the_editor_alone(studio: Studio) -> None:
    first = await drawn(studio)
    shown = await studio.ann.click(first, label="Edit")
    refused = await studio.ann.submit_modal(shown, {"prompt": "   ", "negative": "", "flags": ""})
    assert refused.followups[0].ephemeral
    assert "The prompt is empty" in refused.followups[0].content
    assert len(studio.cards()) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_author_deletes_card_and_pictures(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio, count=2)
    assert file_count(studio) == 2
    if restarted:
        await studio.restart()
    await studio.ann.click(card, label="Delete")
    assert studio.cards() == []
    assert await studio.jobs() == []
    assert file_count(studio) == 0


async def test_a_stranger_deletes_nothing_and_is_told_who_may(studio: Studio) -> None:
    card = await drawn(studio)
    refused = await studio.ben.click(card, label="Delete")
    assert ["or a moderator" in message.content for message in refused.followups] == [True]
    assert refused.followups[0].ephemeral
    assert len(studio.cards()) == 1
    assert file_count(studio) == 1


async def test_a_press_on_what_was_deleted_is_answered(studio: Studio) -> None:
    card = await drawn(studio)
    await studio.store.jobs.delete((await studio.jobs())[0].id)
    for label in ("Reroll", "Same seed", "Edit"):
        result = await studio.ann.click(card, label=label)
        answers = [message for message in (result.response, *result.followups) if message and message.ephemeral]
        assert ["was deleted" in answer.content for answer in answers] == [True], label
    assert len(studio.cards()) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_order_is_cancelled_while_it_is_drawn(studio: Studio, restarted: bool) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing")
    if restarted:
        await studio.restart()
    await studio.ann.click(studio.cards()[0], label="Cancel")
    card = await studio.card(saying="Cancelled")
    assert "Cancel" not in labels_of(card)
    [job] = await studio.jobs()
    assert job.state is JobState.CANCELLED
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures(index=1)


async def test_an_order_is_cancelled_while_it_waits(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ben.slash(studio.channel, "imagine", prompt="an owl")
    await studio.card(saying="Next in line", index=1)
    await studio.mod.click(studio.cards()[1], label="Cancel")
    await studio.card(saying="Cancelled", index=1)
    studio.let_go()
    await studio.pictures(index=0)


async def test_a_stranger_cancels_nothing(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing")
    refused = await studio.ben.click(studio.cards()[0], label="Cancel")
    assert ["or a moderator" in message.content for message in refused.followups] == [True]
    studio.let_go()
    await studio.pictures()


async def test_a_fault_of_ours_is_answered_with_a_reference_and_not_with_a_traceback(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = await drawn(studio)

    async def broken(*_: object) -> None:
        raise RuntimeError("oh dear")

    monkeypatch.setattr(studio.bot.generator, "reroll", broken)
    result = await studio.ann.click(card, label="Reroll")
    assert result.response is not None
    assert result.ephemeral
    assert "oh dear" not in result.response.content
    reference = result.response.content.split()[-1].strip(".")
    assert reference in caplog.text
    assert "oh dear" in caplog.text


async def test_an_answer_that_is_too_long_is_cut(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    card = await drawn(studio)

    async def verbose(*_: object) -> None:
        raise Refused("x" * 5000)

    monkeypatch.setattr(studio.bot.generator, "reroll", verbose)
    result = await studio.ann.click(card, label="Reroll")
    assert result.response is not None
    assert result.response.content == "x" * 1999 + "…"


async def test_an_interaction_that_discord_forgot_harms_nobody(studio: Studio) -> None:
    card = await drawn(studio)
    studio.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction")
    await studio.ann.click(card, label="Reroll")
    assert len(await studio.jobs()) == 1
    await studio.ann.click(card, label="Reroll")
    await studio.pictures(index=1)


async def test_an_order_whose_card_was_lost_on_the_line_is_drawn_and_shown(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await drawn(studio)

    async def cut_off(*_: object, **__: object) -> None:
        raise aiohttp.ServerDisconnectedError

    with monkeypatch.context() as line:
        line.setattr(discord.Webhook, "send", cut_off)
        await studio.ann.click(card, label="Same seed")
    await studio.all_delivered()
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(7, 64, 64)
