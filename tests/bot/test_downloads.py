"""A model is first asked for: the card says how far its download is, then shows the picture."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.settings import Settings
from bot.store import JobState
from inference.catalog import Catalog
from tests.bot.painter import pixels
from tests.bot.studio import Studio, covers, images_of, menu_of, open_studio, said, text_of
from tests.discord_api import schema as discord_schema
from tests.hub import Hub

HEAD = 'family = "emoji"\nkind = "native"\nharmless = true\nsize = [64, 64]\nsides = [32, 128]\n'
CATALOG = f"""
default = "quick"
[models.quick]
{HEAD}weights = {{ path = "quick" }}
[models.big]
{HEAD}title = "Big one"
weights = {{ hub = "someone/big" }}
"""
PERCENT = re.compile(r"Downloading \*\*Big one\*\*: (\d+) % of 1.0 MB")


@pytest.fixture
def catalog(settings: Settings, hub: Hub) -> Catalog:
    """One model that is here, and one of a megabyte that is on the hub."""
    hub.repositories["someone/big"] = {
        "model_index.json": b'{"unet": ["diffusers", "UNet2DConditionModel"]}',
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": b"0123456789" * 100_000,
    }
    settings.catalog.write_text(CATALOG)
    (settings.catalog.parent / "quick").mkdir()
    (settings.catalog.parent / "quick" / "model_index.json").write_text("{}")
    return Catalog.load(settings.catalog)


@pytest.fixture
async def held(settings: Settings, catalog: Catalog, hub: Hub) -> AsyncIterator[Studio]:
    """A studio whose downloads stop half-way until the hub goes on."""
    hub.hold_after = 600_000
    async with open_studio(settings, catalog) as studio:
        yield studio
        assert discord_schema.problems(studio.env.http_requests) == []


async def test_the_card_says_how_far_the_download_is_and_then_shows_the_picture(held: Studio, hub: Hub) -> None:
    await held.ann.slash(held.channel, "imagine", prompt="an owl", model="big", seed=5)
    card = await held.card(saying=" % of ")
    match = PERCENT.search(text_of(card))
    assert match
    assert 0 < int(match[1]) < 100
    await held.ben.slash(held.channel, "imagine", prompt="a fox", seed=6)
    [other] = await held.pictures(index=1)
    assert other.tobytes() == pixels(6, 64, 64)
    assert "☁️ Downloading **Big one**" in said(await held.ben.slash(held.channel, "queue"))
    assert "not downloaded yet" in said(await held.ann.slash(held.channel, "model info", name="big"))
    hub.go.set()
    [picture] = await held.pictures(index=0)
    assert picture.tobytes() == pixels(5, 64, 64)
    assert "in memory" in said(await held.ann.slash(held.channel, "model info", name="big"))


async def test_what_is_still_to_be_downloaded_is_said_while_typing(held: Studio) -> None:
    offered = await held.ann.autocomplete(held.channel, "imagine", "model", "")
    assert [choice["name"] for choice in offered] == [
        "quick (quick) · emoji",
        "Big one (big) · emoji · ☁️ not downloaded yet",
    ]


async def test_a_download_is_cancelled_like_any_order(held: Studio) -> None:
    await held.ann.slash(held.channel, "imagine", prompt="an owl", model="big")
    card = await held.card(saying=" % of ")
    await held.ann.click(card, label="Cancel")
    await held.card(saying="Cancelled.")
    await held.settled(JobState.CANCELLED)


async def test_a_comparison_shows_what_is_drawn_and_how_far_the_download_of_the_rest_is(held: Studio) -> None:
    await held.ann.slash(held.channel, "compare", prompt="an owl", models="quick, big", seed=5)
    assert PERCENT.search(text_of(await held.card(saying=" % of ")))
    [picture] = await held.pictures(count=1)
    assert picture.tobytes() == pixels(5, 64, 64)
    await held.ann.click(held.cards()[0], label="Cancel")
    card = await held.card(saying="2️⃣ Big one · Cancelled.")
    assert len(await images_of(card)) == 1
    assert {job.state for job in await held.jobs()} == {JobState.DONE, JobState.CANCELLED}
    assert menu_of(card, "go_on")


async def test_the_pictures_of_a_comparison_stay_while_the_rest_is_waited_for(held: Studio, hub: Hub) -> None:
    await held.ann.slash(held.channel, "compare", prompt="an owl", models="quick, big", seed=5)
    await held.pictures(count=1)
    async with held.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET member = 0")
    hub.hold_after = 900_000
    hub.go.set()
    hub.go.clear()
    card = await held.card(saying="longer than Discord lets me edit")
    assert covers(card) == [False]
    assert [picture.tobytes() for picture in await images_of(card)] == [pixels(5, 64, 64)]
    hub.go.set()
    await held.pictures(count=2)


async def test_after_a_restart_the_download_goes_on_where_it_was(held: Studio, hub: Hub) -> None:
    await held.ann.slash(held.channel, "imagine", prompt="an owl", model="big", seed=5)
    await held.card(saying=" % of ")
    await held.stop()
    hub.go.set()
    await held.restart()
    [picture] = await held.pictures()
    assert picture.tobytes() == pixels(5, 64, 64)
    assert len(held.cards()) == 1
    assert any(asked.range for asked in hub.requests)


async def test_a_gated_model_says_so_on_the_card(settings: Settings, catalog: Catalog, hub: Hub) -> None:
    hub.gated["someone/big"] = "mine"
    async with open_studio(settings, catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="an owl", model="big")
        card = await studio.card(saying="Accept the licence")
        assert "HF_TOKEN" in text_of(card)


async def test_where_downloads_are_off_people_are_told_before_anything_is_promised(
    settings: Settings, catalog: Catalog, hub: Hub, tmp_path: Path
) -> None:
    async with open_studio(replace(settings, downloads=False), catalog) as studio:
        answer = await studio.ann.slash(studio.channel, "imagine", prompt="an owl", model="big")
        assert answer.ephemeral
        assert "`python -m inference pull big`" in said(answer)
        assert studio.cards() == []
    assert hub.requests == []


async def test_where_downloads_are_off_a_model_of_the_hub_is_marked_and_cannot_be_chosen(
    settings: Settings, catalog: Catalog, hub: Hub
) -> None:
    async with open_studio(replace(settings, downloads=False), catalog) as studio:
        offered = await studio.ann.autocomplete(studio.channel, "imagine", "model", "big")
        assert [choice["name"] for choice in offered] == ["Big one (big) · emoji · ✖️ not on this machine"]
        answer = await studio.ann.slash(studio.channel, "model use", name="big")
        assert "the bot cannot download it" in said(answer)
        assert "✖️ not on this machine" in said(await studio.ann.slash(studio.channel, "model list"))


async def test_where_downloads_are_off_nothing_of_a_comparison_is_drawn(
    settings: Settings, catalog: Catalog, hub: Hub
) -> None:
    async with open_studio(replace(settings, downloads=False), catalog) as studio:
        answer = await studio.ann.slash(studio.channel, "compare", prompt="an owl", models="quick, big")
        assert answer.ephemeral
        assert "`python -m inference pull big`" in said(answer)
        assert studio.cards() == []
        assert await studio.jobs() == []
