"""``/history``: a person finds their pictures again, and nobody else's."""

from __future__ import annotations

import pytest

from tests.bot.painter import pixels
from tests.bot.studio import Studio, images_of, labels_of, text_of


async def ordered(studio: Studio, count: int) -> None:
    """That many orders of ann's, with seeds 0, 100, 200 …"""
    for number in range(count):
        await studio.ann.slash(studio.channel, "imagine", prompt=f"apple {number}", seed=number * 100)
        await studio.pictures(index=number)


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


async def test_pages_are_turned_in_place(studio: Studio) -> None:
    await ordered(studio, 7)
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.response is not None
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
    assert "Nothing is here" in text_of(shown.response)


async def test_a_picture_is_posted_again_with_its_buttons(studio: Studio) -> None:
    await ordered(studio, 1)
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.response is not None
    await studio.ann.click(shown.response, label="Post again")
    [picture] = await studio.pictures(index=1)
    assert picture.tobytes() == pixels(0, 64, 64)
    assert labels_of(studio.cards()[1]) == ["Reroll", "Same seed", "Edit", "Delete"]
    await studio.ann.click(studio.cards()[1], label="Same seed")
    [again] = await studio.pictures(index=2)
    assert again.tobytes() == picture.tobytes()
