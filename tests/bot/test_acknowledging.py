"""The first answer to whatever people do: it waits for no disk, and errors that mean nothing do not undo it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import discord
import pytest
from simcord.backend.errors import BackendError
from simcord.http import router

from bot.rules import Scope
from bot.settings import Settings
from inference.catalog import Catalog
from tests.bot.painter import pixels
from tests.bot.studio import Studio, menu_of, open_studio, said, until


@asynccontextmanager
async def slow_disk(studio: Studio) -> AsyncIterator[None]:
    """Meanwhile nothing is read from the database or written to it."""
    connection, free = studio.store._database._connection, threading.Event()
    await connection.create_function("stand_still", 0, lambda: free.wait(60))
    standing = asyncio.create_task(connection.execute_fetchall("SELECT stand_still()"))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        free.set()
        await standing


def taken_with(monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    """Have Discord take the next answer to an interaction, and report an error all the same."""
    dispatch = router.dispatch

    def look(backend: Any, method: str, path: str, **rest: Any) -> Any:
        result = dispatch(backend, method, path, **rest)
        if path.endswith("/callback"):
            monkeypatch.undo()
            raise BackendError(status, code, "but it was taken")
        return result

    monkeypatch.setattr(router, "dispatch", look)


def expected(studio: Studio, code: int) -> None:
    """That Discord reported this error, and nothing else went wrong."""
    causes = [getattr(error, "original", error) for error in studio.env.errors]
    assert {cause.code for cause in causes} == {code}
    studio.env._errors.clear()  # what is left counts as a fault of the bot


@pytest.fixture
async def boss(studio: Studio) -> Any:
    """Somebody who manages the server, and has chosen its model."""
    guild = studio.channel.guild
    role = guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True, manage_channels=True))
    boss = guild.add_member(studio.env.create_user("boss"), roles=[role])
    await studio.store.preferences.choose_model(Scope.SERVER, guild.id, "guided", chosen_by=boss.id)
    return boss


async def answered(studio: Studio, doing: Callable[[], Awaitable[Any]]) -> Any:
    """Do something while the disk is slow; returns its result, once the disk is quick again."""
    sent = len(studio.env.http_requests)
    async with slow_disk(studio):
        result = asyncio.ensure_future(doing())
        await until(
            lambda: any(call.path.endswith("/callback") for call in studio.env.http_requests[sent:]),
            lambda: "nothing is answered before the database has answered",
        )
    return await result


@pytest.mark.parametrize(
    ("command", "options", "private", "words"),
    [
        ("model use", {"name": "guided"}, True, "draws for you"),
        ("model use", {"name": "guided", "scope": "channel"}, False, "draws in this channel"),
        ("model reset", {"scope": "server"}, False, "Choice undone"),
        ("settings model", {"name": "quick"}, False, "where neither the channel"),
        ("settings hide", {"model": "guided"}, True, "Hidden models: guided"),
        ("settings limits", {"side": 48}, True, "pixels: 48"),
        ("settings explicit", {"policy": "block"}, True, "not shown"),
        ("settings reset", {}, True, "Model: quick"),
    ],
)
async def test_what_is_chosen_is_acknowledged_before_it_is_stored(
    studio: Studio, boss: Any, command: str, options: dict[str, Any], private: bool, words: str
) -> None:
    result = await answered(studio, lambda: boss.slash(studio.channel, command, **options))
    assert words in said(result)
    assert result.ephemeral is private


async def test_a_model_chosen_from_its_card_is_acknowledged_before_it_is_stored(studio: Studio) -> None:
    shown = await studio.ann.slash(studio.channel, "model info", name="guided")
    result = await answered(studio, lambda: studio.ann.click(shown.response, label="Use this model"))
    assert "draws for you" in said(result)
    assert result.ephemeral
    assert result.response.id != shown.response.id


async def test_a_picture_that_is_posted_is_acknowledged_before_it_is_looked_for(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="a fox", models="quick, guided", seed=7)
    await studio.pictures(count=2)
    await studio.all_delivered()
    card, chosen = studio.cards()[0], (await studio.jobs())[0].id
    await answered(studio, lambda: studio.ann.select(card, [chosen], custom_id=menu_of(card, "go_on")))
    history = (await studio.ann.slash(studio.channel, "history")).response
    menu = menu_of(history, "history_act")
    await answered(studio, lambda: studio.ann.select(history, ["post_again"], custom_id=menu))
    assert len(await studio.pictures(index=1)) == len(await studio.pictures(index=2)) == 1


async def test_posting_takes_the_time_between_two_orders(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, cooldown_s=99), catalog) as studio:
        await studio.ann.slash(studio.channel, "compare", prompt="a fox", models="quick, guided", seed=7)
        await studio.pictures(count=2)
        await studio.all_delivered()
        card, chosen = studio.cards()[0], (await studio.jobs())[0].id
        await studio.ben.select(card, [chosen], custom_id=menu_of(card, "go_on"))
        refused = await studio.ben.select(card, [chosen], custom_id=menu_of(card, "go_on"))
        history = (await studio.ann.slash(studio.channel, "history")).response
        also = await studio.ann.select(history, ["post_again"], custom_id=menu_of(history, "history_act"))
        for answer in (refused, also):
            assert "Please wait" in answer.followups[0].content
            assert answer.followups[0].ephemeral
        assert len(studio.cards()) == 2


@pytest.mark.parametrize(("status", "code"), [(400, 40060), (404, 10062), (503, 0)])
async def test_an_order_that_was_acknowledged_with_an_error_is_drawn(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    taken_with(monkeypatch, status, code)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(3, 64, 64)
    assert len(studio.cards()) == 1


async def test_an_order_whose_command_discord_forgot_is_none(studio: Studio) -> None:
    studio.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, message="Unknown interaction")
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    assert await studio.jobs() == []
    assert studio.cards() == []
    expected(studio, 10062)


@pytest.mark.parametrize("label", ["Same seed", "Delete"])
async def test_a_press_that_was_acknowledged_with_an_error_counts(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    await studio.pictures()
    await studio.all_delivered()
    taken_with(monkeypatch, 400, 40060)
    await studio.ann.click(studio.cards()[0], label=label)
    if label == "Delete":
        assert studio.cards() == await studio.jobs() == []
    else:
        await studio.card(saying="identical, pixel for pixel", index=1)


async def test_a_refusal_comes_even_if_the_acknowledgement_met_with_an_error(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    await studio.pictures()
    await studio.all_delivered()
    taken_with(monkeypatch, 400, 40060)
    refused = await studio.ben.click(studio.cards()[0], label="Delete")
    assert "or a moderator" in refused.followups[0].content
    assert refused.followups[0].ephemeral
    taken_with(monkeypatch, 400, 40060)
    refused = await studio.ben.slash(studio.channel, "seed forget", name="nope")
    assert "There is no “nope”" in refused.response.content
    assert refused.ephemeral
    assert studio.env.errors


async def test_an_answer_that_was_taken_with_an_error_is_not_taken_for_a_fault(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_with(monkeypatch, 400, 40060)
    answer = await studio.ann.slash(studio.channel, "model which")
    assert "draws here" in said(answer)
    assert "reference" not in said(answer)
    assert answer.followups == []
    expected(studio, 40060)
