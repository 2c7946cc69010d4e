"""Pictures that a safety check has looked at, in the channels of a server and in somebody's own history."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.settings import Settings
from bot.store import JobState
from inference.catalog import Catalog
from inference.processes.handle import draw_for_parent
from tests.bot import studio as studio_module
from tests.bot.studio import Studio, age_restricted, covers, labels_of, menu_of, open_studio, parts_of, said, text_of
from tests.checkers import save_classifier
from tests.checkpoints import TinyModels, tiny_models

__all__ = ["tiny_models"]


@pytest.fixture
def boss(studio: Studio) -> Any:
    """Somebody who manages the server."""
    guild = studio.channel.guild
    role = guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    return guild.add_member(studio.env.create_user("boss"), roles=[role])


async def imagine(studio: Studio, prompt: str) -> discord.Message:
    """The last card of an order for a model that could draw anything."""
    await studio.ann.slash(studio.channel, "imagine", prompt=prompt, model="guided")
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    return studio.cards()[-1]


@pytest.mark.parametrize(("policy", "shown"), [("block", []), ("spoiler", [True]), ("allow", [False])])
async def test_an_explicit_picture_is_shown_as_the_server_wants(
    studio: Studio, boss: Any, policy: str, shown: list[bool]
) -> None:
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    card = await imagine(studio, "explicit")
    assert covers(card) == shown
    assert bool(card.attachments) is bool(shown)
    assert ("does not show pictures that may be explicit" in text_of(card)) is (policy == "block")


@pytest.mark.parametrize("policy", ["block", "spoiler"])
async def test_an_explicit_picture_is_shown_in_an_age_restricted_channel(
    studio: Studio, boss: Any, policy: str
) -> None:
    age_restricted(studio)
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    assert covers(await imagine(studio, "explicit")) == [False]


@pytest.mark.parametrize("policy", ["block", "spoiler"])
async def test_a_picture_that_was_found_decent_is_shown_plainly(studio: Studio, boss: Any, policy: str) -> None:
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    assert covers(await imagine(studio, "decent")) == [False]


@pytest.mark.parametrize(("prompt", "restricted", "covered"), [("explicit", False, True), ("explicit", True, False)])
async def test_the_verdict_outlives_a_restart_and_counts_wherever_the_picture_is_posted(
    studio: Studio, prompt: str, restricted: bool, covered: bool
) -> None:
    if restricted:
        age_restricted(studio)
    await imagine(studio, prompt)
    await studio.restart()
    if restricted:
        age_restricted(studio)
    [job] = await studio.jobs()
    assert [picture.explicit for picture in await studio.store.jobs.pictures(job.id)] == [True]
    shown = await studio.ann.slash(studio.channel, "history")
    assert covers(shown.response) == [covered]


async def test_a_decent_picture_is_not_covered_in_the_history(studio: Studio) -> None:
    await imagine(studio, "decent")
    shown = await studio.ann.slash(studio.channel, "history")
    assert covers(shown.response) == [False]


@pytest.mark.parametrize("command", ["imagine", "compare", "history"])
@pytest.mark.parametrize("policy", ["block", "spoiler", "allow"])
async def test_a_prompt_is_shown_no_more_plainly_than_its_picture(
    studio: Studio, boss: Any, policy: str, command: str
) -> None:
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    order = {"models": "quick, guided"} if command == "compare" else {"model": "guided"}
    await studio.ann.slash(
        studio.channel, "compare" if command == "compare" else "imagine", prompt="explicit | lewd --no worms", **order
    )
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    shown = text_of(studio.cards()[-1])
    if command == "history":
        shown = text_of((await studio.ann.slash(studio.channel, "history")).response)
    title = r"**explicit \| lewd**"
    assert (title in shown.splitlines()) is (policy == "allow")
    assert (f"||{title} ||" in shown.splitlines()) is (policy == "spoiler")
    assert ("lewd" in shown) is (policy != "block")
    if command != "history":
        assert ("without ||worms ||" in shown) is ("“||lewd ||”" in shown) is (policy == "spoiler")
        assert ("worms" in shown) is (policy != "block")


@pytest.mark.parametrize("policy", ["block", "spoiler", "allow"])
async def test_words_that_are_compared_are_shown_no_more_plainly_than_their_pictures(
    studio: Studio, boss: Any, policy: str
) -> None:
    await boss.slash(studio.channel, "settings explicit", policy=policy)
    await studio.ann.slash(studio.channel, "compare", prompt="{explicit, decent}", models="guided")
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    card = studio.cards()[-1]
    lines = [line for line in text_of(card).splitlines() if "decent" in line]
    title, label = "**{explicit, decent}**", "2️⃣ decent"
    assert lines == {"block": [], "spoiler": [f"||{title} ||"], "allow": [title, label]}[policy]
    chosen = [option["label"] for part in parts_of(card) for option in part.get("options", [])]
    assert ("decent" in chosen) is (policy == "allow")
    items = [item for part in parts_of(card) for item in part.get("items", [])]
    assert [item["description"] for item in items if "decent" in item["description"] and not item["spoiler"]] == (
        ["decent: decent"] if policy == "allow" else []
    )
    assert ("Reroll" in labels_of(card)) is (policy != "block"), "which would show the words again"


async def assert_told_to_its_owner_alone(studio: Studio, card: discord.Message) -> None:
    before, orders = studio.cards(), [job.id for job in await studio.jobs()]
    refused = [
        await studio.ben.context_menu(studio.channel, name, card)
        for name in ("Remix this", "Show recipe", "Draw again")
    ]
    if "Edit" in labels_of(card):
        refused += [await studio.ben.click(card, label="Edit"), await studio.mod.click(card, label="Edit")]
    for answer in refused:
        assert answer.modal is None
        assert "Only the person who ordered this can see" in said(answer)
    assert studio.cards() == before
    assert [job.id for job in await studio.jobs()] == orders
    assert "an explicit fox" in said(await studio.ann.context_menu(studio.channel, "Show recipe", card))
    assert (await studio.ann.context_menu(studio.channel, "Remix this", card)).modal is not None
    studio.env.errors.clear()


async def test_what_a_server_does_not_show_is_told_to_nobody_but_its_owner(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings explicit", policy="block")
    await imagine(studio, "an explicit fox")
    await assert_told_to_its_owner_alone(studio, await studio.card(saying="does not show pictures that may be"))


async def test_what_a_server_does_not_show_of_one_that_is_compared_is_told_to_nobody(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings explicit", policy="block")
    await studio.ann.slash(studio.channel, "compare", prompt="an explicit fox", models="quick, guided")
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    await assert_told_to_its_owner_alone(studio, studio.cards()[-1])


async def test_what_a_server_no_longer_shows_is_told_to_nobody_by_the_menus_of_cards_from_before(
    studio: Studio, boss: Any
) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="an explicit fox", models="quick, guided")
    await studio.settled(JobState.DONE)
    await studio.ann.slash(studio.channel, "imagine", prompt="an explicit fox", model="guided", count=2)
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    compared, several = studio.cards()
    await boss.slash(studio.channel, "settings explicit", policy="block")
    quick = (await studio.jobs())[0].id
    for card, menu, choice in ((compared, "go_on", quick), (several, "one_of", "edit:1")):
        answer = await studio.ben.select(card, [choice], custom_id=menu_of(card, menu))
        assert answer.modal is None
        assert "Only the person who ordered this can see" in said(answer)
    assert len(studio.cards()) == 2
    assert (await studio.ann.select(several, ["edit:1"], custom_id=menu_of(several, "one_of"))).modal is not None
    studio.env.errors.clear()


async def test_where_a_card_is_decides_who_is_told(studio: Studio, boss: Any) -> None:
    await imagine(studio, "an explicit fox")
    await boss.slash(studio.channel, "settings explicit", policy="block")
    history = (await studio.ann.slash(studio.channel, "history")).response
    await studio.ann.select(history, ["post_again"], custom_id=menu_of(history, "history_act"))
    again = await studio.card(saying="does not show pictures that may be")
    await assert_told_to_its_owner_alone(studio, again)
    age_restricted(studio)
    assert (await studio.ben.click(again, label="Edit")).modal is not None


async def test_the_prompt_of_a_picture_that_nobody_looked_at_is_not_covered(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "settings explicit", policy="spoiler")
    await studio.ann.slash(studio.channel, "imagine", model="guided", prompt="a fox")
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    assert covers(studio.cards()[-1]) == [True]
    history = (await studio.ann.slash(studio.channel, "history")).response
    for shown in (studio.cards()[-1], history):
        assert "**a fox**" in text_of(shown).splitlines()


async def test_a_cover_that_somebody_wanted_is_over_the_picture_alone(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", spoiler=True)
    await studio.pictures()
    assert covers(studio.cards()[-1]) == [True]
    assert "\n**an owl**" in "\n" + text_of(studio.cards()[-1])


async def test_what_a_server_does_not_show_is_not_in_a_history_there_either(studio: Studio, boss: Any) -> None:
    await imagine(studio, "explicit")
    await boss.slash(studio.channel, "settings explicit", policy="block")
    shown = (await studio.ann.slash(studio.channel, "history")).response
    assert shown.attachments == []
    assert "does not show pictures that may be explicit" in text_of(shown)
    await studio.ann.select(shown, ["post_again"], custom_id=menu_of(shown, "history_act"))
    card = await studio.card(saying="does not show pictures that may be explicit")
    assert card.attachments == []
    at_home = await studio.ann.user.slash("history")
    assert covers(at_home.response) == [True]


# -- with a real worker, a real model and a real classifier ------------------------------------------------------------


@pytest.fixture
def models(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A catalogue whose one model is checked by a classifier beside it."""
    models = tmp_path / "models"
    shutil.copytree(tiny_models.native, models / "tiny-lcm")
    entry = tiny_models.catalog.read_text(encoding="utf-8").partition("[models.tiny-lora]")[0]
    safety = '[safety]\nweights = { path = "classifier" }\n'
    (models / "models.toml").write_text(entry.replace("harmless = true", "") + safety, encoding="utf-8")
    return models


@pytest.mark.parametrize("explicit", [True, False])
async def test_what_the_classifier_says_decides_how_the_picture_is_shown(
    settings: Settings, models: Path, monkeypatch: pytest.MonkeyPatch, explicit: bool
) -> None:
    monkeypatch.setattr(studio_module, "SECONDS", 150.0)  # a busy machine takes half a minute to bring torch up
    save_classifier(models / "classifier", bias=20.0 if explicit else -20.0)
    settings = Settings(discord_token="token", data_dir=settings.data_dir, catalog=models / "models.toml")
    async with open_studio(settings, Catalog.load(settings.catalog), painter_main=draw_for_parent) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="a fox", steps=1)
        await studio.pictures()
        assert covers(studio.cards()[-1]) == [explicit]
