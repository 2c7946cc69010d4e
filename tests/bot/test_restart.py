"""A bot that is killed and comes back: every order ends exactly once, wherever it stood."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from bot import app
from bot.delivery import delivery, following
from bot.settings import Settings
from bot.store import JobState
from inference.catalog import Catalog
from inference.contract import picture_id
from tests.bot import painter
from tests.bot.painter import pixels
from tests.bot.studio import Studio, eventually, open_studio, until


def edits(studio: Studio, message_id: int) -> int:
    """How often a message was given pictures."""
    return sum(
        str(message_id) in call.path and bool((call.json or {}).get("attachments")) for call in studio.env.http_requests
    )


def drawing_time(studio: Studio, job_id: str) -> int:
    """When the first picture of a job was saved."""
    return (studio.settings.pictures_dir / f"{picture_id(job_id, 0)}.png").stat().st_mtime_ns


async def test_waiting_and_running_orders_are_drawn_after_a_restart(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=1)
    await studio.card(saying="Drawing", index=0)
    await studio.ben.slash(studio.channel, "imagine", prompt="an owl", seed=2)
    await studio.card(saying="Next in line", index=1)
    before = [job.id for job in await studio.jobs()]
    await studio.stop()
    studio.let_go()
    await studio.restart()
    shown = [await studio.pictures(index=index) for index in (0, 1)]
    assert [picture.tobytes() for [picture] in shown] == [pixels(1, 64, 64), pixels(2, 64, 64)]
    assert [job.id for job in await studio.jobs()] == before
    assert len(studio.cards()) == 2
    assert [edits(studio, card.id) for card in studio.cards()] == [1, 1]


async def attempted(studio: Studio, *times: int) -> None:
    """Wait until the database knows that the orders were begun so many times."""

    async def noted() -> bool:
        return [job.attempts for job in await studio.jobs()] == list(times)

    await eventually(noted, lambda: str(times))


async def test_an_order_that_ends_the_bot_twice_is_not_drawn_again_and_its_company_is(studio: Studio) -> None:
    await studio.mod.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.ben.slash(studio.channel, "imagine", prompt="an owl", seed=2)
    await studio.mod.slash(studio.channel, "imagine", prompt="a fox", width=32, height=32, seed=3)
    await studio.mod.click(studio.cards()[0], label="Cancel")
    await attempted(studio, 1, 1, 1, 0)  # ann's and ben's are drawn together
    await studio.restart()
    await attempted(studio, 1, 2, 1, 0)  # and now each by itself
    await studio.restart()
    await studio.card(saying="The drawing process ended unexpectedly", index=1)
    for index, seed, side in ((2, 2, 64), (3, 3, 32)):
        [picture] = await studio.pictures(index=index)
        assert picture.tobytes() == pixels(seed, side, side)
    await studio.all_delivered()


async def test_a_bot_that_is_told_to_stop_blames_no_order(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    for _ in range(3):
        await attempted(studio, 1)
        await studio.stop()
        await studio.store.jobs.interrupted()
        await studio.restart()
    studio.let_go()
    await studio.pictures()


async def test_a_connection_that_breaks_blames_no_order(studio: Studio) -> None:
    await studio.stop()
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")

    async def broken() -> None:
        await attempted(studio, 1)
        raise ConnectionError("the line is dead")

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await app._work(studio.bot, studio.dispatcher, broken())
    await attempted(studio, 0)


async def test_a_stop_blames_no_order_even_if_nobody_waits_for_its_end(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(settings, catalog, painter_main=painter.slow_to_end) as studio:
        await studio.stop()
        await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=4)
        bot = asyncio.create_task(app._work(studio.bot, studio.dispatcher, forever()))
        await attempted(studio, 1)
        bot.cancel()
        async with asyncio.timeout(5):  # the worker is given longer to end
            await attempted(studio, 0)
        assert not bot.done()
        studio.let_go()
        await asyncio.wait([bot])
        await studio.restart()
        await studio.pictures()
        [job] = await studio.jobs()
        assert (job.state, job.attempts) == (JobState.DONE, 1)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_bot_whose_drawing_has_died_absolves_nobody(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    await studio.stop()
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    bot = asyncio.create_task(app._work(studio.bot, studio.dispatcher, forever()))
    await attempted(studio, 1)

    def broken(*_: object) -> None:
        raise RuntimeError("oh dear")

    monkeypatch.setattr(studio.dispatcher._hearing, "hear", broken)
    studio.let_go()
    await asyncio.wait([bot])
    assert isinstance(bot.exception(), ExceptionGroup)
    [job] = await studio.jobs()
    assert (job.state, job.attempts) == (JobState.RUNNING, 1)


async def test_being_told_to_stop_absolves_no_order_that_has_just_killed_a_worker(
    settings: Settings, catalog: Catalog
) -> None:
    async with open_studio(settings, catalog, painter_main=painter.gone_for_good) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="kill me")

        async def waits_again() -> bool:
            [job] = await studio.jobs()
            return (job.state, job.attempts) == (JobState.QUEUED, 1)

        await eventually(waits_again, lambda: "it does not wait again")
        await studio.stop()
        await studio.store.jobs.interrupted()
        await attempted(studio, 1)


async def test_a_failed_batch_is_no_attempt_of_those_who_shared_it(studio: Studio) -> None:
    await studio.mod.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ann.slash(studio.channel, "imagine", prompt="fail")
    await studio.ben.slash(studio.channel, "imagine", prompt="wait")
    await studio.mod.click(studio.cards()[0], label="Cancel")
    await studio.card(saying="memory", index=1)
    await studio.card(saying="Drawing", index=2)
    await attempted(studio, 1, 1, 1)


async def test_what_was_saved_of_an_order_that_failed_does_not_stay(studio: Studio) -> None:
    await studio.mod.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ann.slash(studio.channel, "imagine", prompt="fail", count=2)
    [_, job] = await studio.jobs()
    saved = [studio.settings.pictures_dir / f"{picture_id(job.id, index)}.png" for index in range(2)]
    saved[1].touch()
    saved[0].mkdir()  # cannot be removed, which keeps nobody from hearing of the end
    studio.let_go()
    await studio.card(saying="memory", index=1)
    await studio.all_delivered()
    assert [path.exists() for path in saved] == [True, False]


async def test_what_was_drawn_while_the_database_was_locked_is_shown_afterwards(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "LOCKED_S", 0.1)
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=4)
    await attempted(studio, 1)
    async with studio.store._database.transaction() as connection:
        await connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(studio.settings.database_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        studio.let_go()
        await until(lambda: "will be recorded later: database is locked" in caplog.text, lambda: caplog.text)
        other.rollback()
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(4, 64, 64)
    await studio.all_delivered()


async def test_what_was_drawn_and_not_shown_is_shown_without_being_drawn_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_AFTER_S", ())
    studio.env.inject_error("PATCH", "*", status=503, times=None)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    await studio.settled(JobState.DONE)
    await studio.restart()
    [job] = await studio.jobs()
    assert job.delivered_at is None
    drawn_at = drawing_time(studio, job.id)
    await studio.stop()
    studio.env.backend.faults.clear()
    await studio.restart()
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(3, 64, 64)
    assert drawing_time(studio, job.id) == drawn_at
    assert len(studio.cards()) == 1


async def test_a_picture_waits_for_discord_to_come_back(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_AFTER_S", ())
    monkeypatch.setattr(following, "AWAY_S", 0.1)
    studio.env.inject_error("PATCH", "*", status=503, times=None)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=3)
    await studio.settled(JobState.DONE)
    studio.env.backend.faults.clear()
    await studio.pictures()
    await studio.all_delivered()


async def test_an_end_that_was_shown_is_not_shown_again(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures()
    await studio.ann.slash(studio.channel, "imagine", prompt="fail")
    await studio.card(saying="memory", index=1)
    await studio.all_delivered()
    sent = len(studio.env.http_requests)
    await studio.restart()
    await studio.restart()
    changes = [call for call in studio.env.http_requests[sent:] if call.method != "GET"]
    assert [call.path for call in changes if "commands" not in call.path] == []


async def test_the_commands_are_told_to_discord_only_when_they_changed(studio: Studio) -> None:
    def tellings() -> int:
        return sum(call.method == "PUT" and call.path.endswith("/commands") for call in studio.env.http_requests)

    assert tellings() == 1
    await studio.restart()
    assert tellings() == 1
    await studio.store.remember("commands", "something else")
    await studio.restart()
    assert tellings() == 2


async def test_orders_of_one_card_that_ended_while_the_bot_was_away_are_shown_at_once(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_AFTER_S", ())
    studio.env.inject_error("PATCH", "*", status=503, times=None)
    await studio.ann.slash(studio.channel, "compare", prompt="an owl", steps="1,2,3")
    await studio.settled(JobState.DONE)
    await studio.stop()
    studio.env.backend.faults.clear()
    sent = len(studio.env.http_requests)
    await studio.restart()
    await studio.all_delivered()
    assert len(await studio.pictures(count=3)) == 3
    assert sum(call.method == "PATCH" for call in studio.env.http_requests[sent:]) == 1
