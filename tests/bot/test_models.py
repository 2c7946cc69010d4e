"""``/model``: people look at models and choose them, for themselves, a channel or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.rules import Explicit, Rules
from inference.catalog.entries import Family, ModelEntry
from inference.contract import Adapter
from tests.bot.painter import pixels
from tests.bot.studio import Studio, age_restricted, covers, eventually, images_of, labels_of, said, text_of, until


@pytest.fixture
async def boss(studio: Studio) -> Any:
    """Somebody who manages the server."""
    guild = studio.channel.guild
    role = guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True, manage_channels=True))
    return guild.add_member(studio.env.create_user("boss"), roles=[role])


async def model_of_a_new_picture(studio: Studio, channel: Any | None = None) -> str:
    """Which model draws when ann orders without naming one."""
    before = len(await studio.jobs())
    await studio.ann.slash(channel or studio.channel, "imagine", prompt="a fox")
    await studio.all_delivered()
    jobs = await studio.jobs()
    assert len(jobs) == before + 1
    return jobs[-1].request.model


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_person_chooses_for_themselves(studio: Studio, restarted: bool) -> None:
    answer = await studio.ann.slash(studio.channel, "model use", name="guided")
    assert answer.ephemeral
    assert "With guidance draws for you" in said(answer)
    if restarted:
        await studio.restart()
    assert await model_of_a_new_picture(studio) == "guided"
    await studio.ann.slash(studio.channel, "model reset")
    assert await model_of_a_new_picture(studio) == "quick"


async def test_a_channels_model_comes_before_ones_own(studio: Studio, boss: Any) -> None:
    other = studio.channel.guild.create_text_channel("other")
    answer = await boss.slash(studio.channel, "model use", name="guided", scope="channel")
    assert not answer.ephemeral
    assert "With guidance draws in this channel" in said(answer)
    answer = await studio.ann.slash(studio.channel, "model use", name="quick")
    assert "Here, With guidance still draws: it was chosen for this channel." in said(answer)
    assert await model_of_a_new_picture(studio) == "guided"
    assert await model_of_a_new_picture(studio, other) == "quick"


async def test_a_servers_model_is_for_those_who_have_not_chosen(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "model use", name="guided", scope="server")
    assert await model_of_a_new_picture(studio) == "guided"
    await studio.ann.slash(studio.channel, "model use", name="quick")
    assert await model_of_a_new_picture(studio) == "quick"


@pytest.mark.parametrize(("scope", "words"), [("channel", "Manage Channels"), ("server", "Manage Server")])
async def test_channels_and_servers_are_for_those_who_manage_them(studio: Studio, scope: str, words: str) -> None:
    for command in ({"name": "guided"}, {}):
        answer = await studio.ann.slash(
            studio.channel, "model use" if command else "model reset", scope=scope, **command
        )
        assert answer.ephemeral
        assert words in said(answer)
    assert await model_of_a_new_picture(studio) == "quick"


async def test_a_model_that_is_not_there_cannot_be_chosen(studio: Studio) -> None:
    answer = await studio.ann.slash(studio.channel, "model use", name="nope")
    assert "no model “nope”. Choose from: quick" in said(answer)
    assert "no choice to undo" in said(await studio.ann.slash(studio.channel, "model reset"))


async def test_a_model_that_cannot_be_had_is_marked_and_cannot_be_chosen(studio: Studio, boss: Any) -> None:
    for scope in ("me", "channel", "server"):
        options = {} if scope == "me" else {"scope": scope}
        answer = await boss.slash(studio.channel, "model use", name="absent", **options)
        assert answer.ephemeral
        assert "“Not here” is not on this machine, and the bot cannot download it" in said(answer)
    assert "is not on this machine" in said(await boss.slash(studio.channel, "settings model", name="absent"))
    offered = await studio.ann.autocomplete(studio.channel, "imagine", "model", "absent", prompt="x")
    assert [choice["name"] for choice in offered] == ["Not here (absent) · emoji · ✖️ not on this machine"]


@pytest.mark.parametrize("name", ["Guided", "With guidance", "WITH  GUIDANCE"])
async def test_a_model_is_known_by_its_title_and_in_any_case(studio: Studio, name: str) -> None:
    assert "With guidance draws for you" in said(await studio.ann.slash(studio.channel, "model use", name=name))
    await studio.ann.slash(studio.channel, "imagine", prompt=f'a fox --model "{name}" --lora INK:0.5')
    await studio.pictures()
    request = (await studio.jobs())[-1].request
    assert (request.model, request.adapters) == ("guided", (Adapter(name="ink", strength=0.5),))


async def test_which_explains_who_decided(studio: Studio, boss: Any) -> None:
    await boss.slash(studio.channel, "model use", name="guided", scope="channel")
    await studio.ann.slash(studio.channel, "model use", name="quick")
    answer = await studio.ann.slash(studio.channel, "model which")
    assert answer.ephemeral
    text = said(answer)
    assert "**With guidance** draws here: it was chosen for this channel." in text
    for line in ("✅ this channel: guided", "· you: quick", "· this server: –", "· the bot: quick"):
        assert line in text


async def test_the_list_shows_every_model_with_what_matters(studio: Studio) -> None:
    answer = await studio.ann.slash(studio.channel, "model list")
    assert answer.ephemeral
    text = said(answer)
    for words in ("✅ **Quick**", "`quick`", "emoji, native LCM", "64×64", "4 steps", "💾 on disk", "MIT"):
        assert words in text
    assert "**With guidance**" in text
    assert "✖️ not on this machine" in text  # the third is not on disk


async def test_a_model_that_cannot_be_loaded_is_marked_with_the_reason(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="find it damaged", model="guided")
    await studio.card(saying="cannot be used")
    assert "⚠️ cannot be loaded" in said(await studio.ann.slash(studio.channel, "model list"))
    info = said(await studio.ann.slash(studio.channel, "model info", name="guided"))
    assert "the file is cut off" in info
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", model="guided")
    await studio.pictures()
    assert "⚠️" not in said(await studio.ann.slash(studio.channel, "model list"))


async def example_of(studio: Studio, entry: ModelEntry) -> Path:
    """Where a model's example lies, once it is there."""
    examples = studio.bot.models.examples

    async def drawn() -> bool:
        return await examples.find(entry) is not None

    await eventually(drawn, lambda: "no example came")
    example = await examples.find(entry)
    assert example is not None
    return example.path


async def test_examples_are_drawn_once_and_kept(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "model list")
    drawn_at = (await example_of(studio, studio.catalog["quick"])).stat().st_mtime_ns
    shown = await studio.ann.slash(studio.channel, "model list")
    assert shown.response is not None
    [thumbnail] = await images_of(shown.response)
    assert thumbnail.tobytes() == pixels(7, 64, 64)
    await studio.restart()
    shown = await studio.ann.slash(studio.channel, "model info", name="quick")
    assert shown.response is not None
    [picture] = await images_of(shown.response)
    assert picture.tobytes() == pixels(7, 64, 64)
    assert (await example_of(studio, studio.catalog["quick"])).stat().st_mtime_ns == drawn_at


@pytest.fixture
def risky(studio: Studio) -> Iterator[Callable[[str], ModelEntry]]:
    """Makes a model that is not harmless, whose example shows what is said."""
    models = studio.catalog._models

    def make(prompt: str) -> ModelEntry:
        models["risky"] = replace(models["guided"], name="risky", examples=(prompt,))
        return models["risky"]

    yield make
    del models["risky"]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("prompt", "policy", "shown"),
    [
        ("explicit", Explicit.BLOCK, []),
        ("explicit", Explicit.SPOILER, [True]),
        ("explicit", Explicit.ALLOW, [False]),
        ("unchecked", Explicit.SPOILER, [True]),
        ("decent", Explicit.BLOCK, [False]),
    ],
)
async def test_examples_are_shown_as_other_pictures_are(
    studio: Studio,
    risky: Callable[[str], ModelEntry],
    prompt: str,
    policy: Explicit,
    shown: list[bool],
    restarted: bool,
) -> None:
    entry = risky(prompt)
    await studio.ann.slash(studio.channel, "model list")
    await studio.store.preferences.set_rules(studio.channel.guild.id, Rules(explicit=policy))
    await studio.ann.slash(studio.channel, "model info", name="risky")
    await example_of(studio, entry)
    if restarted:
        await studio.restart()
    info = await studio.ann.slash(studio.channel, "model info", name="risky")
    assert covers(info.response) == shown
    assert ("does not show pictures that may be explicit" in said(info)) is (not shown)
    await example_of(studio, studio.catalog["quick"])
    listed = await studio.ann.slash(studio.channel, "model list")
    assert covers(listed.response) == [False, *shown]  # the other one is harmless


async def test_in_an_age_restricted_channel_examples_are_shown(
    studio: Studio, risky: Callable[[str], ModelEntry]
) -> None:
    age_restricted(studio)
    entry = risky("explicit")
    await studio.ann.slash(studio.channel, "model info", name="risky")
    await example_of(studio, entry)
    assert covers((await studio.ann.slash(studio.channel, "model info", name="risky")).response) == [False]


async def test_info_draws_the_example_that_is_missing(studio: Studio) -> None:
    shown = await studio.ann.slash(studio.channel, "model info", name="quick")
    assert shown.response is not None
    for words in ("steps 1 to 8", "guidance 3 to 13", "sides 32 to 128", "negative prompts: not used", "try: a fox"):
        assert words in said(shown)
    message = shown.response
    await until(lambda: "An example is being drawn" not in text_of(ephemeral(studio, message.id)), lambda: said(shown))
    [picture] = await images_of(ephemeral(studio, message.id))
    assert picture.tobytes() == pixels(7, 64, 64)


async def test_info_names_the_loras_that_fit_and_the_words_that_wake_them_up(studio: Studio) -> None:
    info = said(await studio.ann.slash(studio.channel, "model info", name="guided")).replace("\\", "")
    assert "LoRA Ink (`ink`) · trigger words: ink drawing, bold lines" in info
    assert "LoRA Ink" not in said(await studio.ann.slash(studio.channel, "model info", name="quick"))


async def test_info_of_a_model_with_many_loras_still_fits_a_card(studio: Studio) -> None:
    ink = studio.catalog.adapter("ink", Family.SD15)
    many = {f"l{n}": replace(ink, name=f"l{n}", title="[" * 100, triggers=("*" * 500,)) for n in range(30)}
    studio.catalog._adapters.update(many)
    try:
        assert "and 23 more" in said(await studio.ann.slash(studio.channel, "model info", name="guided"))
    finally:
        for name in many:
            del studio.catalog._adapters[name]


def ephemeral(studio: Studio, message_id: int) -> Any:
    """A message that ann alone sees, as it is now."""
    return next(message for message in studio.channel.history(viewer=studio.ann) if message.id == message_id)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_model_is_chosen_from_its_card(studio: Studio, restarted: bool) -> None:
    shown = await studio.ann.slash(studio.channel, "model info", name="guided")
    assert shown.response is not None
    assert labels_of(shown.response) == ["Use this model"]
    if restarted:
        await studio.restart()
    await studio.ann.click(shown.response, label="Use this model")
    assert await model_of_a_new_picture(studio) == "guided"


async def test_a_hidden_model_is_neither_shown_nor_offered_nor_drawn_with(studio: Studio) -> None:
    await studio.store.preferences.set_rules(studio.channel.guild.id, Rules(hidden_models=frozenset({"guided"})))
    assert "With guidance" not in said(await studio.ann.slash(studio.channel, "model list"))
    offered = await studio.ann.autocomplete(studio.channel, "imagine", "model", "", prompt="x")
    assert "guided" not in [choice["value"] for choice in offered]
    answer = await studio.ann.slash(studio.channel, "imagine", prompt="a fox", model="guided")
    assert "not available on this server" in said(answer)


@pytest.mark.parametrize("restarted", [False, True])
async def test_many_models_are_turned_like_pages(studio: Studio, restarted: bool) -> None:
    entries = [replace(studio.catalog["quick"], name=f"m{number}", title=f"Model {number}") for number in range(9)]
    studio.bot.models._catalog._models.update({entry.name: entry for entry in entries})
    try:
        shown = await studio.ann.slash(studio.channel, "model list")
        assert shown.response is not None
        assert "Model 8" not in said(shown)
        if restarted:
            await studio.restart()
        turned = await studio.ann.click(shown.response, label="Page 2")
        turned = await studio.ann.click(turned.response, label="Page 3")
        assert "Model 8" in said(turned)
        assert labels_of(turned.response) == ["Page 2"]
    finally:
        for entry in entries:
            del studio.bot.models._catalog._models[entry.name]
