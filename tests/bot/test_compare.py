"""``/compare``: one prompt and one seed side by side, on one card that fills as pictures come."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from bot.ordering.comparing import Axes, labels, parted, variants
from bot.ordering.flags import Options
from bot.rules import Rules
from bot.settings import Settings
from bot.store import Job, JobState
from inference.catalog import Catalog
from inference.catalog.entries import Family, ModelEntry
from inference.contract import ImageRequest
from tests.bot.painter import pixels
from tests.bot.studio import (
    GALLERY,
    Studio,
    images_of,
    labels_of,
    menu_of,
    open_studio,
    parts_of,
    said,
    text_of,
    until,
)


async def compared(studio: Studio, count: int, **options: Any) -> Any:
    """The card of a comparison of ann's, once all pictures are there."""
    await studio.ann.slash(studio.channel, "compare", **{"prompt": "a fox", "seed": 7, **options})
    await studio.pictures(count=count)
    return studio.cards()[-1]


async def test_models_are_compared_on_one_card(studio: Studio) -> None:
    card = await compared(studio, 2, models="quick, guided")
    assert len(studio.cards()) == 1
    assert [picture.tobytes() for picture in await images_of(card)] == [pixels(7, 64, 64)] * 2
    for words in ("a fox", "1️⃣ Quick", "2️⃣ With guidance", "seed `7`", "64×64"):
        assert words in text_of(card)
    assert {job.request.model for job in await studio.jobs()} == {"quick", "guided"}
    await studio.all_delivered()
    turns = studio.bot.follower._endings._turns
    await until(lambda: not turns, lambda: f"of a card that is finished this is still remembered: {dict(turns)}")


async def test_where_it_is_not_said_what_is_compared_the_models_are_that_the_server_lets_draw_it(
    studio: Studio,
) -> None:
    entry = studio.catalog["guided"]
    studio.catalog._models["large"] = replace(entry, name="large", family=Family.SDXL, width=96, height=96)
    try:
        await studio.store.preferences.set_rules(studio.channel.guild.id, Rules(largest_side=64))
        await compared(studio, 2)
    finally:
        del studio.catalog._models["large"]
    assert [job.request.model for job in await studio.jobs()] == ["quick", "guided"]


async def test_where_it_is_said_what_is_compared_nothing_is_looked_up_in_threads_that_may_be_busy(
    studio: Studio,
) -> None:
    busy, free = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(busy)
    busy.submit(free.wait, 60)
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided")
    assert len(await studio.jobs()) == 2
    free.set()
    studio.let_go()
    await studio.pictures(count=2)


async def test_while_it_is_drawn_the_card_says_where_each_of_them_stands(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided")
    text = text_of(await studio.card(saying="guidance 8 🎨 Drawing ▰▱▱▱ step 1 of 4"))
    assert "2️⃣ With guidance · guidance 1 ⏳ Next in line" in text
    assert text.count(f"<@{studio.ann.id}>") == 1
    edits = [call for call in studio.env.http_requests if call.method == "PATCH"]
    assert len(edits) <= 2, "no more than the card of one order is"
    studio.let_go()
    await studio.pictures(count=2)
    assert "step 1" not in text_of(await studio.card(saying="Quick"))


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_is_left_of_a_comparison_is_cancelled(studio: Studio, restarted: bool) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided")
    await studio.card(saying="Drawing")
    if restarted:
        await studio.restart()
    refused = await studio.ben.click(studio.cards()[0], label="Cancel")
    assert "Only the person who ordered this" in said(refused)
    await studio.ann.click(studio.cards()[0], label="Cancel")
    await studio.settled(JobState.CANCELLED)
    await studio.all_delivered()
    [card] = studio.cards()
    assert text_of(card).count("Cancelled.") == 2
    assert labels_of(card) == ["Reroll", "Delete"]


async def test_a_comparison_tells_once_what_was_not_read(studio: Studio) -> None:
    card = await compared(studio, 2, steps="2,4", prompt="a fox | in the snow")
    assert text_of(card).count("did not read the end of the prompt: “in the snow”") == 1


async def test_all_models_that_are_here_are_compared_where_nothing_is_named(studio: Studio) -> None:
    card = await compared(studio, 2)
    assert "With guidance" in text_of(card)
    assert "Not here" not in text_of(card)


async def test_steps_and_guidance_make_a_grid(studio: Studio) -> None:
    card = await compared(studio, 4, steps="2,4", guidance="3, 8")
    for words in ("2 steps · guidance 3", "2 steps · guidance 8", "4 steps · guidance 3", "4 steps · guidance 8"):
        assert words in text_of(card)


async def test_a_lora_is_compared_with_none(studio: Studio) -> None:
    card = await compared(studio, 3, models="guided", loras="-, ink, ink:0.5")
    for words in ("1️⃣ no LoRA", "2️⃣ ink 1", "3️⃣ ink 0.5"):
        assert words.replace(".", "\\.") in text_of(card)


async def test_words_are_compared(studio: Studio) -> None:
    card = await compared(studio, 2, prompt="a {red,  dark green} fox, in snow --steps 3")
    for words in ("a {red, dark green} fox, in snow", "1️⃣ red", "2️⃣ dark green", "seed `7`"):
        assert words in text_of(card)
    assert [job.request.prompt for job in await studio.jobs()] == ["a red fox, in snow", "a dark green fox, in snow"]
    [parts] = [item["items"] for item in parts_of(card) if item["type"] == GALLERY]
    assert [part["description"] for part in parts] == [
        "red: a red fox, in snow",
        "dark green: a dark green fox, in snow",
    ]
    [menu] = [item for item in parts_of(card) if item.get("custom_id", "").startswith("go_on:")]
    assert [option["label"] for option in menu["options"]] == ["red", "dark green"]


async def test_words_and_numbers_make_a_grid(studio: Studio) -> None:
    card = await compared(studio, 4, prompt="a {red, blue} fox", steps="2, 4")
    for words in ("1️⃣ red · 2 steps", "2️⃣ red · 4 steps", "3️⃣ blue · 2 steps", "4️⃣ blue · 4 steps"):
        assert words in text_of(card)


async def test_the_last_of_several_names_is_offered_while_typing(studio: Studio) -> None:
    async def offered(option: str, typed: str, **options: str) -> list[str]:
        found = await studio.ann.autocomplete(studio.channel, "compare", option, typed, prompt="x", **options)
        assert all(choice["name"] == choice["value"] for choice in found), "people go on typing in what is shown"
        return [choice["value"] for choice in found]

    assert await offered("models", "") == ["quick", "guided", "absent"]
    assert await offered("models", "quick,with gui") == ["quick, guided"]
    assert await offered("models", "quick，with gui") == ["quick, guided"]
    assert await offered("models", "quick, " * 14) == [], "a hundred characters is all that Discord takes"
    assert await offered("loras", "-, bold", models="guided, quick") == ["-, ink"]
    assert await offered("loras", "-, ink", models="quick") == []


async def test_chinese_commas_part_what_is_compared(studio: Studio) -> None:
    card = await compared(studio, 4, prompt="一个{红，绿}苹果", models="quick、guided")
    assert "一个{红, 绿}苹果" in text_of(card)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": "quick"}, "this would have 1."),
        ({"steps": "1,2,3,4", "guidance": "3,4,5"}, "A comparison has 2 to 9 pictures; this would have 12"),
        ({"prompt": "{a, b}{c, d}{e, f, g}"}, "this would have 12"),
        ({"prompt": "{a, b}" * 160}, "this would have 1.4615e+48"),
        ({"prompt": "a {fox, }", "models": "quick"}, "this would have 1."),
        ({"models": "quick, nope"}, "no model “nope”"),
        ({"steps": "2, many"}, "“many” is not one"),
        ({"steps": "2, 2.5"}, "“2.5” is not one"),
        ({"guidance": "3, 99"}, "must be between"),
        ({"loras": "-, paint"}, "no LoRA “paint”"),
    ],
)
async def test_what_cannot_be_compared_is_refused_to_the_asker_alone(
    studio: Studio, options: dict[str, str], words: str
) -> None:
    answer = await studio.ann.slash(studio.channel, "compare", **{"prompt": "a fox", **options})
    assert answer.ephemeral
    assert words in said(answer)
    assert await studio.jobs() == []


async def test_a_comparison_counts_as_so_many_orders(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing")
    for _number in range(3):
        await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    answer = await studio.ann.slash(studio.channel, "compare", prompt="a fox", steps="1,2,3,4,5,6,7,8")
    assert "no room for 8 orders at once" in said(answer)
    assert len(await studio.jobs()) == 4


async def test_a_comparison_that_never_has_room_is_told_what_has(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, queue_limit_per_user=3), catalog) as studio:
        answer = await studio.ann.slash(studio.channel, "compare", prompt="a fox", steps="1,2,3,4")
        assert "4 orders at once are too many: at most 3 may be waiting here. Compare fewer." in said(answer)


async def test_a_comparison_is_taken_whole_or_not_at_all(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its rows are written, other orders of the same person take the room that it had."""
    async with open_studio(replace(settings, queue_limit_per_user=3), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing")
        add = studio.store.jobs.add

        async def add_beside_others(job: Job, *jobs: Job) -> None:
            await add(job, *jobs)
            while studio.dispatcher.waiting_for(str(job.user_id)) < 2:
                studio.dispatcher.submit(job_id=str(uuid.uuid4()), owner=str(job.user_id), request=job.request)

        monkeypatch.setattr(studio.store.jobs, "add", add_beside_others)
        answer = await studio.ann.slash(studio.channel, "compare", prompt="a fox", steps="2,4")
        assert "no room for 2 orders at once" in said(answer)
        assert len(await studio.jobs()) == 1
        assert len(studio.dispatcher) == 2


async def test_a_card_takes_the_place_of_words(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided", seed=7)
    card = studio.env.backend.get_message(studio.channel.id, studio.cards()[0].id)
    card.content = "Something else was said here."
    studio.let_go()
    await studio.pictures(count=2)
    assert len(studio.cards()) == 1


async def test_what_is_deleted_while_its_card_is_made_ends_in_silence(studio: Studio) -> None:
    parcel = await studio.bot.endings._comparison([])
    assert parcel.files == ()


async def test_one_failure_leaves_the_others_and_is_told(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="fail", steps="2,4")
    await studio.card(saying="1️⃣ 2 steps ⚠️")
    assert "2️⃣ 4 steps ⚠️" in text_of(await studio.card(saying="2️⃣ 4 steps ⚠️"))


@pytest.mark.parametrize("restarted", [False, True])
async def test_one_of_them_gets_a_card_of_its_own(studio: Studio, restarted: bool) -> None:
    card = await compared(studio, 2, models="quick, guided")
    if restarted:
        await studio.restart()
    chosen = (await studio.jobs())[1]
    await studio.ben.select(card, [chosen.id], custom_id=menu_of(card, "go_on"))
    await studio.pictures(index=1)
    own = studio.cards()[1]
    assert labels_of(own) == ["Reroll", "Same seed", "Edit", "Delete"]
    assert "With guidance" in text_of(own)
    await studio.ben.click(own, label="Same seed")
    await studio.card(saying="identical, pixel for pixel", index=2)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_comparison_is_rerolled_and_deleted(studio: Studio, restarted: bool) -> None:
    card = await compared(studio, 2, models="quick, guided")
    if restarted:
        await studio.restart()
    await studio.ben.click(card, label="Reroll")
    again = await studio.pictures(index=1, count=2)
    assert again[0].tobytes() == again[1].tobytes() != pixels(7, 64, 64)
    refused = await studio.ben.click(card, label="Delete")
    assert "Only the person who ordered this" in said(refused)
    await studio.ann.click(card, label="Delete")
    assert len(studio.cards()) == 1
    assert len(await studio.jobs()) == 2


async def test_a_rerolled_comparison_is_its_persons_from_the_first_moment(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided")
    studio.let_go()
    await studio.pictures(count=2)
    (studio.settings.pictures_dir / "go").unlink()
    await studio.ben.click(studio.cards()[0], label="Reroll")
    card = studio.cards()[1]
    assert f"<@{studio.ben.id}>" in text_of(card)
    assert "2️⃣ With guidance" in text_of(card)
    assert labels_of(card) == ["Reroll", "Cancel", "Delete"]
    await studio.ben.click(card, label="Delete")
    assert [len(card.attachments) for card in studio.cards()] == [2]
    assert {job.user_id for job in await studio.jobs()} == {studio.ann.id}


async def test_a_killed_bot_fills_the_card_after_its_restart(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", models="quick, guided", seed=7)
    assert len(await studio.jobs()) == 2
    await studio.stop()
    studio.let_go()
    await studio.restart()
    await studio.pictures(count=2)
    assert len(studio.cards()) == 1
    assert {job.state for job in await studio.jobs()} == {JobState.DONE}


async def test_no_kill_leaves_a_part_of_a_comparison(studio: Studio) -> None:
    """Nothing of it is in the database for others until all of it is."""
    there: list[int] = []
    with closing(sqlite3.connect(studio.settings.database_path, check_same_thread=False)) as other:

        def look() -> None:
            there.append(other.execute("SELECT count(*) FROM jobs").fetchone()[0])

        await studio.store._database._connection.create_function("look", 0, look)
        async with studio.store._database.transaction() as connection:
            await connection.execute("CREATE TEMP TRIGGER looking AFTER INSERT ON jobs BEGIN SELECT look(); END")
        await compared(studio, 3, steps="1,2,3")
    assert there == [0, 0, 0]
    assert len(await studio.jobs()) == 3


def order(catalog: Catalog, **axes: str) -> list[ImageRequest]:
    def find(name: str | None) -> ModelEntry:
        return catalog.default if name is None else catalog[name]

    return variants(Options(prompt="x"), Axes(**axes), catalog, find=find, shown=[catalog.default], seed=7)


def test_labels_say_what_differs_and_nothing_else(catalog: Catalog) -> None:
    assert labels(order(catalog, steps="2,4"), catalog) == ["2 steps", "4 steps"]
    assert labels(order(catalog, models="quick,guided"), catalog)[0] == "Quick · guidance 8"


@pytest.mark.parametrize(
    ("prompts", "whole", "differing"),
    [
        (["a fox", "a fox"], "a fox", ["–", "–"]),
        (["a red fox", "a blue fox"], "a {red, blue} fox", ["red", "blue"]),
        (["a red, wet fox", "a blue, wet fox"], "a {red, blue}, wet fox", ["red", "blue"]),
        (
            ["red fox in snow", "blue fox in rain"],
            "{red fox in snow, blue fox in rain}",
            ["red fox in snow", "blue fox in rain"],
        ),
        (["a fox", "a wet fox"], "a {–, wet}fox", ["–", "wet"]),
        (["红色的狐狸", "蓝色的狐狸"], "{红, 蓝}色的狐狸", ["红", "蓝"]),
        (["x (red:1.2)", "x (red:1.4)"], "x (red:1.{2, 4})", ["2", "4"]),
    ],
)
def test_prompts_part_where_their_words_do(prompts: list[str], whole: str, differing: list[str]) -> None:
    assert parted(prompts) == (whole, differing)


def test_strengths_are_read_as_flags_are(catalog: Catalog) -> None:
    orders = order(catalog, models="guided", loras="ink:-0.5, ink: .5, ink:")
    assert [request.adapters[0].strength for request in orders] == [-0.5, 0.5, 1.0]


def test_what_is_named_twice_is_compared_once(catalog: Catalog) -> None:
    assert [request.steps for request in order(catalog, steps="2, 4,2,")] == [2, 4]
