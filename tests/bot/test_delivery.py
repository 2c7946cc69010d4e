"""A picture reaches its person by whatever way is open, and none is lost where all are closed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import discord
import pytest
import simcord
from simcord.http import router

from bot.delivery import delivery
from bot.delivery.delivery import Parcel
from bot.store import Job, JobState, Place
from tests.bot.painter import pixels
from tests.bot.studio import Studio, delete_newest, images_of, labels_of, menu_of, refuse_files, said, text_of, until


async def waiting(studio: Studio, *, seed: int = 7) -> None:
    """An order of ann's that is held back while it is drawn."""
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=seed)
    await studio.card(saying="Drawing")


async def expire_token(studio: Studio) -> None:
    """Let the token of the only job run out, as after fifteen minutes: for the bot and for Discord."""
    await studio.env.advance_time(16 * 60)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET token_expires_at = ?", (time.time() - 1,))


def locked(studio: Studio) -> None:
    """Discord lets nobody edit the first card any more."""
    for path in ("/webhooks/*", f"/channels/*/messages/{studio.cards()[0].id}"):
        studio.env.inject_error("PATCH", path, status=403, code=50001, message="Missing Access", times=None)


async def test_after_the_token_the_bots_own_right_edits_the_card(studio: Studio) -> None:
    await waiting(studio)
    await expire_token(studio)
    studio.let_go()
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(7, 64, 64)
    assert len(studio.cards()) == 1


async def test_a_token_that_died_early_harms_nothing(studio: Studio) -> None:
    await waiting(studio)
    studio.env.inject_error("PATCH", "/webhooks/*", status=401, code=50027, message="Invalid Webhook Token", times=None)
    studio.let_go()
    await studio.pictures()
    assert len(studio.cards()) == 1


async def test_a_spurious_unknown_interaction_harms_nothing(studio: Studio) -> None:
    await waiting(studio)
    studio.env.inject_error("PATCH", "/webhooks/*", status=404, code=10062, message="Unknown interaction")
    studio.let_go()
    await studio.pictures()
    await studio.all_delivered()
    assert len(studio.cards()) == 1


@pytest.mark.parametrize("expired", [False, True])
async def test_a_card_that_a_moderator_took_away_stays_away_and_its_picture_is_in_the_history(
    studio: Studio, expired: bool
) -> None:
    await waiting(studio)
    if expired:
        await expire_token(studio)
    await studio.mod.delete(studio.cards()[0])
    studio.let_go()
    await studio.all_delivered()
    assert studio.cards() == []
    assert studio.ann.user.dm_channel.history() == []
    shown = (await studio.ann.slash(studio.channel, "history")).response
    assert "not shown anywhere yet: 1" in text_of(shown)
    [picture] = await images_of(shown)
    assert picture.tobytes() == pixels(7, 64, 64)


async def test_a_card_that_cannot_be_edited_is_sent_anew_in_its_place(studio: Studio) -> None:
    await waiting(studio)
    locked(studio)
    studio.let_go()
    await studio.all_delivered()
    [card] = studio.cards()
    [picture] = await images_of(card)
    assert picture.tobytes() == pixels(7, 64, 64)
    assert labels_of(card) == ["Reroll", "Same seed", "Edit", "Delete"]


async def test_a_card_without_pictures_is_sent_anew_in_its_place_as_well(studio: Studio) -> None:
    await waiting(studio)
    locked(studio)
    [job] = await studio.jobs()
    studio.dispatcher.cancel(job.id)
    await studio.all_delivered()
    [card] = studio.cards()
    assert "Cancelled" in text_of(card)


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_an_answer_of_discords_that_nobody_expects_costs_an_edit_and_no_order(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_the_end: bool
) -> None:
    def look(backend: simcord.Backend, method: str, path: str) -> None:
        if method == "PATCH":
            raise TypeError("string indices must be integers, not 'str'")

    monkeypatch.setattr(router, "_check_faults", look)
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=7)
    await until(lambda: "string indices" in caplog.text, studio.env.transcript)
    if not at_the_end:
        monkeypatch.undo()
    studio.let_go()
    await studio.all_delivered()
    [card] = studio.cards()
    [picture] = await images_of(card)
    assert picture.tobytes() == pixels(7, 64, 64)


async def test_an_end_is_recorded_while_an_edit_hangs_and_shown_after_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, hangs, goes_on = discord.Webhook.edit_message, asyncio.Event(), asyncio.Event()

    async def edit_slowly(webhook: discord.Webhook, message_id: int, **card: Any) -> Any:
        hangs.set()
        await goes_on.wait()
        return await edit(webhook, message_id, **card)

    monkeypatch.setattr(discord.Webhook, "edit_message", edit_slowly)
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=7)
    await hangs.wait()
    studio.let_go()
    await studio.settled(JobState.DONE)
    [job] = await studio.jobs()
    assert job.delivered_at is None
    goes_on.set()
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(7, 64, 64)


async def test_a_deleted_channel_sends_the_picture_home(studio: Studio) -> None:
    await waiting(studio)
    home = studio.ann.user.dm_channel
    studio.env.backend.delete_channel(studio.channel.id)
    studio.let_go()
    await until(lambda: any(message.attachments for message in home.history()), studio.env.transcript)
    [picture] = await images_of(home.history()[-1])
    assert picture.tobytes() == pixels(7, 64, 64)
    await studio.all_delivered()


async def test_a_comparison_whose_card_cannot_be_edited_is_sent_anew_once(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="wait", steps="1,2,3,4", seed=7)
    locked(studio)
    studio.let_go()
    await studio.all_delivered()
    [card] = studio.cards()
    assert len(card.attachments) == 4
    assert {job.place.message_id for job in await studio.jobs()} == {card.id}
    await studio.ann.click(card, label="Delete")
    assert studio.cards() == []
    assert await studio.jobs() == []


@pytest.mark.parametrize("command", ["imagine", "compare"])
async def test_a_guest_whose_token_is_gone_writes_home_once_and_can_take_it_back(studio: Studio, command: str) -> None:
    options = {"steps": "1,2,3"} if command == "compare" else {}
    await studio.ann.slash(studio.channel, command, prompt="wait", seed=7, **options)
    await expire_token(studio)
    for method in ("PATCH", "POST"):
        here = f"/channels/{studio.channel.id}/messages*"
        studio.env.inject_error(method, here, status=403, code=50001, message="Missing Access", times=None)
    studio.let_go()
    await studio.all_delivered()
    home = studio.ann.user.dm_channel
    [card] = home.history()
    assert len(card.attachments) == (3 if options else 1)
    studio.env.backend.faults.clear()
    await studio.ann.user.click(card, label="Delete")
    assert home.history() == []
    assert await studio.jobs() == []


async def test_what_was_sent_home_goes_with_its_order(studio: Studio) -> None:
    await waiting(studio)
    home = studio.ann.user.dm_channel
    studio.env.backend.delete_channel(studio.channel.id)
    studio.let_go()
    await studio.all_delivered()
    shown = await studio.ann.user.slash("history")
    await delete_newest(studio.ann.user, shown.response)
    await until(lambda: not any(message.attachments for message in home.history()), studio.env.transcript)


async def test_what_is_deleted_while_a_way_is_looked_for_is_not_shown(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting(studio)
    endings = studio.bot.follower._endings
    pack = endings.parcel

    async def deleted_once_packed(job: Job) -> Parcel:
        parcel = await pack(job)
        await studio.store.jobs.delete(job.id)
        return parcel

    monkeypatch.setattr(endings, "parcel", deleted_once_packed)
    locked(studio)
    studio.let_go()
    await until(lambda: len(studio.bot.background) == 0, studio.env.transcript)
    assert not any(card.attachments for card in studio.cards())


async def test_what_is_deleted_on_its_way_does_not_stay(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    await waiting(studio)
    send = studio.bot.delivery._send

    async def deleted_meanwhile(where: discord.abc.Messageable, job: Job, parcel: Parcel) -> Place:
        place = await send(where, job, parcel)
        await studio.store.jobs.delete(job.id)
        return place

    monkeypatch.setattr(studio.bot.delivery, "_send", deleted_meanwhile)
    locked(studio)
    studio.let_go()
    await until(lambda: len(studio.bot.background) == 0, studio.env.transcript)
    assert not any(card.attachments for card in studio.cards())


async def test_where_nothing_is_open_the_picture_waits_in_the_history(studio: Studio) -> None:
    await waiting(studio)
    for method, path in (("PATCH", "*"), ("POST", "/channels/*/messages"), ("POST", "/users/@me/channels")):
        studio.env.inject_error(method, path, status=403, code=50001, message="Missing Access", times=None)
    studio.let_go()
    await studio.settled(JobState.DONE)
    await studio.all_delivered()
    studio.env.backend.faults.clear()
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.response is not None
    assert shown.ephemeral
    assert [picture.tobytes() for picture in await images_of(shown.response)] == [pixels(7, 64, 64)]


@pytest.mark.parametrize("command", ["imagine", "compare"])
async def test_where_discord_refuses_the_pictures_the_card_says_so_and_the_history_still_opens(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    options = {"steps": "1,2"} if command == "compare" else {}
    await studio.ann.slash(studio.channel, command, prompt="wait", seed=7, **options)
    refuse_files(monkeypatch)
    studio.let_go()
    await studio.all_delivered()
    [card] = studio.cards()
    assert "Discord does not accept the pictures here. You will find them in `/history`." in text_of(card)
    assert "Cancel" not in labels_of(card)
    assert "Delete" in labels_of(card)
    [job, *_others] = await studio.jobs()
    shown = (await studio.ann.slash(studio.channel, "history")).response
    assert "Discord does not accept one of these pictures here." in text_of(shown)
    assert "not shown anywhere yet" in text_of(shown)
    posted = await studio.ann.select(shown, values=["post_again"], custom_id=menu_of(shown, "history_act"))
    assert "Discord does not accept the pictures here." in said(posted)
    monkeypatch.undo()
    again = (await studio.ann.slash(studio.channel, "history")).response
    assert "not shown anywhere yet" not in text_of(again)
    assert len(await images_of(again)) == len([job, *_others])


async def test_what_only_its_channel_refuses_comes_home_and_the_card_in_the_channel_says_so(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting(studio)
    refuse_files(monkeypatch, but=studio.ann.user.dm_channel.id)
    studio.let_go()
    await studio.all_delivered()
    [card] = studio.cards()
    assert "Discord does not accept the pictures here." in text_of(card)
    assert "Cancel" not in labels_of(card)
    assert len(await images_of(studio.ann.user.dm_channel.history()[-1])) == 1


async def test_a_message_that_was_edited_too_often_to_be_edited_soon_is_sent_anew(studio: Studio) -> None:
    await waiting(studio)
    await expire_token(studio)
    path = f"/channels/*/messages/{studio.cards()[0].id}"
    studio.env.inject_error("PATCH", path, status=429, code=30046, message="Maximum number of edits", times=None)
    studio.let_go()
    await studio.all_delivered()
    assert [len(card.attachments) for card in studio.cards()] == [1]


async def test_a_guest_whose_token_is_gone_tries_nothing_that_only_members_may(studio: Studio) -> None:
    await waiting(studio)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET member = 0")
    await expire_token(studio)
    await studio.restart()
    sent = len(studio.env.http_requests)
    studio.let_go()
    await studio.all_delivered()
    home = studio.ann.user.dm_channel
    assert len(await images_of(home.history()[-1])) == 1
    assert {call.path for call in studio.env.http_requests[sent:]} <= {
        "/users/@me/channels",
        f"/users/{studio.ann.id}",
        f"/channels/{home.id}/messages",
    }


async def test_a_card_that_was_taken_from_a_guest_is_not_sent_home(studio: Studio) -> None:
    await waiting(studio)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET member = 0")
    await studio.restart()
    await studio.mod.delete(studio.cards()[0])
    studio.let_go()
    await studio.all_delivered()
    assert studio.ann.user.dm_channel.history() == []
    shown = (await studio.ann.slash(studio.channel, "history")).response
    assert "not shown anywhere yet: 1" in text_of(shown)


@pytest.mark.parametrize(("age_s", "edits"), [(0.0, 1), (4000.0, 0)])
async def test_edits_by_right_are_few_and_of_old_messages_kept_for_the_end(
    studio: Studio, age_s: float, edits: int
) -> None:
    await waiting(studio)
    await expire_token(studio)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET created_at = created_at - ?", (age_s,))
    sent = len(studio.env.http_requests)
    await studio.restart()

    def told() -> int:
        return sum(call.method == "PATCH" for call in studio.env.http_requests[sent:])

    if edits:
        await until(lambda: told() > 0, studio.env.transcript)
    await asyncio.sleep(2.0)  # long enough for more, were they wanted
    assert told() == edits
    studio.let_go()
    await studio.pictures()


async def test_a_short_outage_is_waited_for(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_AFTER_S", (0.05, 0.05))
    await waiting(studio)
    studio.env.inject_error("PATCH", "*", status=503, times=2)
    studio.let_go()
    await studio.settled(JobState.DONE)
    await studio.pictures()
    assert len(studio.cards()) == 1


async def test_a_way_on_which_discord_is_busy_is_not_closed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_AFTER_S", (0.05, 0.05, 0.05))
    await waiting(studio)
    studio.env.inject_error("PATCH", "*", status=429, code=0, message="You are being rate limited.", times=3)
    studio.let_go()
    await studio.all_delivered()
    assert [len(card.attachments) for card in studio.cards()] == [1]


async def test_files_respect_the_limit_of_the_place(studio: Studio) -> None:
    await waiting(studio)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET attachment_size_limit = 150")
    studio.let_go()
    await studio.pictures()
    [attachment] = studio.cards()[0].attachments
    assert attachment.filename.endswith(".webp")
    assert attachment.size <= 150
    [job] = await studio.jobs()
    [picture] = await studio.store.jobs.pictures(job.id)
    assert picture.bytes > 150


async def test_pictures_that_left_the_disk_are_said_to_be_gone(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", seed=7)
    await studio.pictures()
    [job] = await studio.jobs()
    for file in studio.settings.pictures_dir.glob("*.png"):
        file.unlink()
    parcel = await studio.bot.follower._endings.parcel(replace(job, state=JobState.DONE))
    assert parcel.files == ()
    shown = await studio.ann.slash(studio.channel, "history")
    assert shown.response is not None
    assert "no longer on this machine" in text_of(shown.response)


async def test_progress_is_not_told_more_than_once_a_second(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures()
    edits = [call for call in studio.env.http_requests if call.method == "PATCH"]
    assert len(edits) <= 3
