"""While a slow order is drawn, its card shows what becomes of it, where the pictures would be shown plainly too."""

from __future__ import annotations

from typing import Any

import pytest

from bot.rules import Explicit, Rules
from tests.bot.painter import SKETCH, pixels
from tests.bot.studio import Studio, age_restricted, images_of, text_of


async def previews(studio: Studio, prompt: str = "sketch", **options: Any) -> list[tuple[int, ...]]:
    """The colours of the previews on the card of an order that is being drawn, one for each."""
    await studio.ann.slash(studio.channel, "imagine", prompt=prompt, **options)
    card = await studio.card(saying="step 1 of")
    return [image.getpixel((8, 8)) for image in await images_of(card)]


async def allowed(studio: Studio) -> None:
    await studio.store.preferences.set_rules(studio.channel.guild.id, Rules(explicit=Explicit.ALLOW))


async def test_the_card_shows_every_picture_as_it_is_by_now_and_then_the_pictures(studio: Studio) -> None:
    assert await previews(studio, count=2) == [SKETCH, SKETCH]
    studio.let_go()
    await studio.all_delivered()
    shown = await studio.pictures(count=2)
    [job] = await studio.jobs()
    assert [image.tobytes() for image in shown] == [pixels(job.request.seed + i, 64, 64) for i in range(2)]


async def test_a_cancelled_order_keeps_no_preview(studio: Studio) -> None:
    await previews(studio)
    await studio.ann.click(studio.cards()[-1], label="Cancel")
    card = await studio.card(saying="Cancelled")
    assert not card.attachments
    assert not list(studio.settings.pictures_dir.glob("*preview*"))


@pytest.mark.parametrize("prompt", ["sketch", "explicit sketch"])
async def test_what_may_be_explicit_is_not_shown_beforehand(studio: Studio, prompt: str) -> None:
    assert await previews(studio, prompt, model="guided") == []


async def test_what_was_found_decent_is_shown(studio: Studio) -> None:
    assert await previews(studio, "decent sketch", model="guided") == [SKETCH]


@pytest.mark.parametrize("prompt", ["sketch", "explicit sketch"])
async def test_where_explicit_pictures_are_allowed_so_are_their_previews(studio: Studio, prompt: str) -> None:
    await allowed(studio)
    assert await previews(studio, prompt, model="guided") == [SKETCH]


async def test_in_an_age_restricted_channel_previews_are_shown(studio: Studio) -> None:
    age_restricted(studio)
    assert await previews(studio, "explicit sketch", model="guided") == [SKETCH]


async def test_pictures_that_are_to_be_covered_have_no_previews(studio: Studio) -> None:
    assert await previews(studio, spoiler=True) == []
    assert "sketch" in text_of(studio.cards()[-1])
