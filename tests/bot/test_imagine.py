"""``/imagine`` as a person lives it: what is ordered is drawn, what cannot be drawn is refused to them alone."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from simcord.interactions import OptionError

from bot.settings import Settings
from bot.store import JobState
from inference.catalog import Catalog
from inference.contract import MAX_SEED, Unread
from tests.bot.painter import pixels
from tests.bot.studio import SECONDS, Studio, labels_of, open_studio, said, text_of


async def test_a_prompt_becomes_a_picture_with_everything_that_makes_it(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", seed=7, count=2)
    pictures = await studio.pictures(count=2)
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64)]
    assert [picture.tobytes() for picture in pictures] == [pixels(7, 64, 64), pixels(8, 64, 64)]
    card = studio.cards()[-1]
    assert labels_of(card) == ["Reroll", "Same seed", "Edit", "Delete"]
    for word in ("a red apple", "Quick", "`7`", "`8`", "4 steps", "guidance 8", "64×64"):
        assert word in text_of(card)


async def test_a_seed_is_chosen_where_none_is_given(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple")
    [picture] = await studio.pictures()
    seed = re.search(r"seed `(\d+)`", text_of(studio.cards()[-1]))
    assert seed is not None
    assert picture.tobytes() == pixels(int(seed[1]), 64, 64)


@pytest.mark.parametrize("seed", [0, MAX_SEED])
async def test_every_seed_can_be_asked_for(studio: Studio, seed: int) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", seed=seed)
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(seed, 64, 64)
    assert f"`{seed}`" in text_of(studio.cards()[-1])


async def test_all_options_are_taken(studio: Studio) -> None:
    options: dict[str, Any] = {"model": "guided", "steps": 2, "guidance": 1.5, "aspect": "96x32", "seed": 7}
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", **options)
    [picture] = await studio.pictures()
    assert picture.size == (96, 32)
    for word in ("With guidance", "2 steps", "guidance 1.5", "96×32"):
        assert word in text_of(studio.cards()[-1])


async def test_a_strength_acts_on_the_lora_that_the_prompt_names(studio: Studio) -> None:
    options = {"model": "guided", "lora_strength": 0.3}
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox <lora:ink:1>", **options)
    await studio.card(saying="LoRA ink 0.3")
    answer = await studio.ann.slash(studio.channel, "imagine", prompt="a fox", **options)
    assert answer.ephemeral
    assert "`lora_strength` is for one LoRA" in said(answer)


async def test_a_lora_is_offered_with_the_words_that_wake_it_up(studio: Studio) -> None:
    offered = await studio.ann.autocomplete(studio.channel, "imagine", "lora", "", prompt="x", model="guided")
    assert offered == [{"name": "Ink (ink) · trigger words: ink drawing, bold lines", "value": "ink"}]


async def test_a_card_tells_its_place_in_line_then_its_progress(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ben.slash(studio.channel, "imagine", prompt="an owl")
    await studio.card(saying="Next in line", index=1)
    assert labels_of(studio.cards()[1]) == ["Cancel"]
    studio.let_go()
    await studio.pictures(index=0)
    await studio.pictures(index=1)


async def test_models_are_offered_while_typing(studio: Studio) -> None:
    offered = await studio.ann.autocomplete(studio.channel, "imagine", "model", "guid", prompt="x")
    assert offered == [{"name": "With guidance (guided) · sd15", "value": "guided"}]


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": ""},
        {"prompt": "x" * 3000},
        {"prompt": "x", "seed": -2},
        {"prompt": "x", "seed": MAX_SEED + 1},
        {"prompt": "x", "seed": "seven"},
        {"prompt": "x", "count": 0},
        {"prompt": "x", "count": 5},
        {"prompt": "x", "steps": 0},
    ],
)
async def test_discord_itself_is_told_what_is_possible(studio: Studio, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        await studio.ann.slash(studio.channel, "imagine", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": "   "}, "The prompt is empty"),
        ({"prompt": "x", "model": "nope"}, "no model “nope”. Choose from: quick, guided"),
        ({"prompt": "x", "model": "n" * 3000}, "no model “nnn"),
        ({"prompt": "x", "aspect": f"1{' ' * 3000}:0"}, "for example 3:2, or 512x512"),
        ({"prompt": "x", "aspect": "60x64"}, "Try 64×64"),
        ({"prompt": "x", "aspect": "4096x4096"}, "Try 128×128"),
        ({"prompt": "x", "aspect": "huge"}, "for example 3:2, or 512x512"),
        ({"prompt": "x", "steps": 50}, "must be between 1 and 8"),
        ({"prompt": "x", "guidance": 20.0}, "must be between 3 and 13"),
    ],
)
async def test_what_cannot_be_drawn_is_refused_to_the_asker_alone(
    studio: Studio, options: dict[str, Any], words: str
) -> None:
    result = await studio.ann.slash(studio.channel, "imagine", **options)
    assert result.ephemeral
    assert result.response is not None
    assert words in result.response.content
    assert not result.deferred
    assert studio.cards() == []
    assert await studio.jobs() == []


async def test_a_refused_prompt_is_given_back_to_be_copied(studio: Studio) -> None:
    prompt = "a fox in the snow, " * 50 + "--v 6"
    for command in ("imagine", "compare"):
        refused = await studio.ann.slash(studio.channel, command, prompt=prompt)
        assert refused.ephemeral
        assert "I do not know `--v`" in said(refused)
        assert f"```\n{prompt}\n```" in said(refused)


async def test_a_prompt_that_is_given_back_stays_in_its_block(studio: Studio) -> None:
    refused = await studio.ann.slash(studio.channel, "imagine", prompt="a ``` @everyone ````` fox --v 6")
    assert said(refused).endswith("\n```\na @everyone `` fox --v 6\n```")


async def test_one_person_cannot_fill_the_queue(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, queue_limit_per_user=1), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing")
        await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
        refused = await studio.ann.slash(studio.channel, "imagine", prompt="a fox")
        assert refused.ephemeral
        assert refused.response is not None
        assert "You have reached the limit of waiting orders per person (1)" in refused.response.content
        assert "```\na fox\n```" in refused.response.content
        await studio.ben.slash(studio.channel, "imagine", prompt="a cat")
        studio.let_go()
        for index in range(3):
            await studio.pictures(index=index)


async def test_a_failed_drawing_says_why_and_the_next_is_not_disturbed(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="fail")
    await studio.card(saying="Try a smaller size", index=0)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures(index=1)
    assert [job.state for job in await studio.jobs()] == [JobState.FAILED, JobState.DONE]


async def test_a_death_of_the_worker_is_told_and_mended(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="kill me once")
    await studio.pictures()
    [job] = await studio.jobs()
    assert job.state is JobState.DONE


async def test_a_job_that_kills_twice_ends_with_a_reason(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="kill me")
    await studio.card(saying="ended unexpectedly")
    await studio.card(saying="⚠️")
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures(index=1)


async def test_nobody_is_pinged_by_a_prompt(studio: Studio) -> None:
    prompt = f"@everyone @here {studio.ben.mention} <@&{studio.channel.id}>"
    await studio.ann.slash(studio.channel, "imagine", prompt=prompt)
    await studio.pictures()
    for message in studio.cards():
        stored = studio.env.backend.get_message(studio.channel.id, message.id)
        assert not stored.mention_everyone
        assert not message.mention_everyone
        assert studio.ben.id not in [user.id for user in message.mentions]
    bodies = [call.json for call in studio.env.http_requests if call.json and "components" in call.json]
    assert bodies
    assert all(body["allowed_mentions"] == {"parse": []} for body in bodies)


async def test_many_at_once_each_get_their_own(studio: Studio) -> None:
    for seed in range(8):
        person = (studio.ann, studio.ben)[seed % 2]
        await person.slash(studio.channel, "imagine", prompt=f"apple {seed}", seed=seed * 100)
    shown = [await studio.pictures(index=index) for index in range(8)]
    assert [picture.tobytes() for [picture] in shown] == [pixels(seed * 100, 64, 64) for seed in range(8)]


async def test_the_first_answer_comes_before_anything_is_stored(studio: Studio) -> None:
    async with studio.store._database.transaction():  # somebody else writes, for long
        order = asyncio.create_task(studio.ann.slash(studio.channel, "imagine", prompt="an owl"))
        async with asyncio.timeout(SECONDS):
            while not any(call.path.endswith("/callback") for call in studio.env.http_requests):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not order.done()
    await order
    await studio.pictures()


async def test_what_the_model_did_not_read_is_told_and_kept(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox | in the *snow*", negative="blur | and noise")
    card = await studio.card(saying="did not read the end of the prompt")
    assert "the prompt: “in the \\*snow\\*”" in text_of(card)
    assert "the negative prompt: “and noise”" in text_of(card)
    await studio.restart()
    [job] = await studio.jobs()
    [picture] = await studio.store.jobs.pictures(job.id)
    assert picture.unread == Unread(prompt="in the *snow*", negative="and noise")


async def test_of_a_prompt_that_was_read_nothing_is_told(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox")
    await studio.pictures()
    assert "did not read" not in text_of(studio.cards()[-1])
