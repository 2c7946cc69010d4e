"""``/history``: a person finds their pictures again, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bot.painter import pixels
from tests.bot.studio import Studio, choice_of, delete_newest, images_of, labels_of, menu_of, said, text_of, until


async def ordered(studio: Studio, count: int, *, before: int = 0) -> None:
    """That many orders of ann's, with seeds 0, 100, 200 …"""
    for number in range(count):
        await studio.ann.slash(studio.channel, "imagine", prompt=f"apple {number}", seed=number * 100)
        await studio.pictures(index=before + number)


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_newest_picture_comes_first(studio: Studio, restarted: bool) -> None:
    await ordered(studio, 2)
    if restarted:
        await studio.restart()
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.ephemeral
    assert shown.response is not None
    text = text_of(shown.response)
    assert text.index("apple 1") < text.index("apple 0")
    assert [picture.tobytes() for picture in await images_of(shown.response)] == [
        pixels(100, 64, 64),
        pixels(0, 64, 64),
    ]


async def test_others_see_nothing_of_it(studio: Studio) -> None:
    await ordered(studio, 1)
    shown = await studio.ben.slash(studio.channel, "history")
    assert shown.response is not None
    assert "Nothing yet" in text_of(shown.response)
    assert shown.response.attachments == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_pages_are_turned_in_place(studio: Studio, restarted: bool) -> None:
    await ordered(studio, 7)
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.response is not None
    if restarted:
        await studio.restart()
    assert "Page 2" in labels_of(shown.response)
    turned = await studio.ann.click(shown.response, label="Page 2")
    assert turned.response is not None
    assert turned.response.id == shown.response.id
    assert "apple 0" in text_of(turned.response)
    assert len(turned.response.attachments) == 2
    back = await studio.ann.click(turned.response, label="Page 1")
    assert back.response is not None
    assert "apple 6" in text_of(back.response)


async def test_a_page_that_is_not_there_says_so(studio: Studio) -> None:
    shown = await studio.ann.slash(studio.channel, "history", page=9)
    assert shown.response is not None
    assert "Nothing found" in text_of(shown.response)


async def the_history(studio: Studio, **options: Any) -> Any:
    """What ann is shown."""
    shown = await studio.ann.slash(studio.channel, "history", **options)
    assert shown.response is not None
    return shown.response


async def do(studio: Studio, shown: Any, what: str) -> Any:
    """Pick something in the first entry's menu."""
    return await studio.ann.select(shown, [what], custom_id=menu_of(shown, "history_act"))


async def test_words_of_the_prompt_find_a_picture_and_the_next_page_keeps_them(studio: Studio) -> None:
    await ordered(studio, 7)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=5)
    await studio.pictures()
    shown = await the_history(studio, search="OWL")
    assert "an owl" in text_of(shown)
    assert "apple" not in text_of(shown)
    shown = await the_history(studio, search="apple")
    turned = await studio.ann.click(shown, label="Page 2")
    assert "with “apple”" in text_of(turned.response)
    assert "owl" not in text_of(turned.response)


async def test_the_pictures_of_one_model_are_found(studio: Studio) -> None:
    await ordered(studio, 1)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", model="guided")
    await studio.pictures(index=1)
    for name in ("guided", "with GUIDANCE"):
        assert "owl" in text_of(await the_history(studio, model=name))
        assert "apple" not in text_of(await the_history(studio, model=name))
    assert "Nothing found" in text_of(await the_history(studio, model="nobody"))


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_picture_is_posted_again_with_its_buttons(studio: Studio, restarted: bool) -> None:
    await ordered(studio, 1)
    shown = await the_history(studio)
    if restarted:
        await studio.restart()
    await do(studio, shown, "post_again")
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(0, 64, 64)
    assert labels_of(studio.cards()[1]) == ["Reroll", "Same seed", "Edit", "Delete"]
    await studio.ann.click(studio.cards()[1], label="Same seed")
    [again] = await studio.pictures(index=2)
    assert again.tobytes() == picture.tobytes()


async def test_an_old_picture_is_drawn_again_rerolled_and_edited(studio: Studio) -> None:
    await ordered(studio, 1)
    shown = await the_history(studio)
    await do(studio, shown, "same_seed")
    [same] = await studio.pictures(index=1)
    assert same.tobytes() == pixels(0, 64, 64)
    await do(studio, shown, "reroll")
    [other] = await studio.pictures(index=2)
    assert other.tobytes() != same.tobytes()
    form = await do(studio, shown, "edit")
    await studio.ann.submit_modal(form, {"prompt": "a pear", "negative": "", "flags": "--seed 9"})
    [edited] = await studio.pictures(index=3)
    assert edited.tobytes() == pixels(9, 64, 64)


async def test_a_recipe_is_shown_as_one_would_type_it(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox --no blur --seed 5 --steps 2")
    await studio.pictures()
    told = await do(studio, await the_history(studio), "recipe")
    assert told.followups[0].ephemeral
    for words in ("a fox", "blur", "--model quick --ar 64x64 --count 1 --steps 2 --guidance 8 --seed 5"):
        assert words in said(told)


async def test_what_is_deleted_is_gone_from_the_history_the_disk_and_the_chat(studio: Studio) -> None:
    await ordered(studio, 2)
    shown = await delete_newest(studio.ann, await the_history(studio))
    assert "apple 1" not in text_of(shown)
    assert "apple 0" in text_of(shown)
    await until(lambda: len(studio.cards()) == 1, lambda: str(studio.cards()))
    assert [job.request.prompt for job in await studio.jobs()] == ["apple 0"]
    assert len(list(studio.settings.pictures_dir.glob("*.png"))) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_nothing_is_deleted_unasked_and_the_page_and_the_search_stay(studio: Studio, restarted: bool) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=5)
    await studio.pictures()
    await ordered(studio, 7, before=1)
    second = (await studio.ann.click(await the_history(studio, search="apple"), label="Page 2")).response
    asked = (await do(studio, second, choice_of(second, "delete"))).response
    assert len(await studio.jobs()) == 8
    assert labels_of(asked) == ["Delete for good", "Keep it"]
    if restarted:
        await studio.restart()
    kept = (await studio.ann.click(asked, label="Keep it")).response
    assert text_of(kept) == text_of(second)
    after = await delete_newest(studio.ann, kept)
    assert "page 2" in text_of(after)
    assert "with “apple”" in text_of(after)
    assert [f"apple {number}" in text_of(after) for number in (0, 1)] == [True, False]
    assert len(await studio.jobs()) == 7


async def test_the_longest_search_has_room_in_every_id(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="x" * 40, seed=5)
    await studio.pictures()
    asked = await do(studio, shown := await the_history(studio, search="x" * 40), choice_of(shown, "delete"))
    assert labels_of(asked.response) == ["Delete for good", "Keep it"]


async def test_what_was_deleted_meanwhile_cannot_be_used(studio: Studio) -> None:
    await ordered(studio, 1)
    shown = await the_history(studio)
    await studio.ann.click(studio.cards()[0], label="Delete")
    for what in ("post_again", "recipe", "edit"):
        assert "was deleted" in said(await do(studio, shown, what))


async def test_what_could_be_shown_nowhere_waits_here_and_says_so(studio: Studio) -> None:
    studio.env.inject_error("PATCH", "*", status=404, code=10008, times=None)
    studio.env.inject_error("POST", "/channels/*/messages", status=403, code=50013, times=None)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    await studio.all_delivered()
    studio.env.backend.faults.clear()
    shown = await the_history(studio)
    assert "📬 Finished and not shown anywhere yet: 1" in text_of(shown)
    [picture] = await images_of(shown)
    assert picture.tobytes() == pixels(3, 64, 64)
    assert "📬" not in text_of(await the_history(studio))
