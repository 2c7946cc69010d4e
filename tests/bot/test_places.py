"""The bot works on servers, in direct messages, in threads, and where it is only a guest."""

from __future__ import annotations

import time
from dataclasses import replace

import discord
from simcord.builders import ChannelHandle

from bot.delivery.lateness import late_note
from bot.rules import Scope
from inference.contract import Waiting
from tests.bot.conftest import a_job
from tests.bot.painter import pixels
from tests.bot.studio import Studio, images_of, said, until


async def test_pictures_are_drawn_in_direct_messages(studio: Studio) -> None:
    person = studio.ann.user
    await person.slash("imagine", prompt="an owl", seed=5)
    channel = person.dm_channel
    await until(lambda: any(message.attachments for message in channel.history()), lambda: str(channel.history()))
    [picture] = await images_of(channel.history()[-1])
    assert picture.tobytes() == pixels(5, 64, 64)
    await person.click(channel.history()[-1], label="Same seed")
    await until(lambda: len(channel.history()) == 2 and bool(channel.history()[-1].attachments), lambda: "no second")
    refused = await person.slash("model use", name="guided", scope="server")
    assert "do it on that server" in said(refused)
    [job, _again] = await studio.jobs()
    assert job.place.guild_id is None
    assert job.place.member


async def test_a_thread_draws_with_the_model_of_its_channel(studio: Studio) -> None:
    await studio.store.preferences.choose_model(Scope.CHANNEL, studio.channel.id, "guided", chosen_by=1)
    channel = studio.bot.get_channel(studio.channel.id)
    assert isinstance(channel, discord.TextChannel)
    thread = await channel.create_thread(name="aside", type=discord.ChannelType.public_thread)
    there = ChannelHandle(studio.env, studio.channel.guild, studio.env.backend.get_channel(thread.id))
    await studio.ann.slash(there, "imagine", prompt="an owl")
    await studio.all_delivered()
    [job] = await studio.jobs()
    assert job.request.model == "guided"


async def test_pictures_of_age_restricted_channels_are_not_covered(studio: Studio) -> None:
    channel = studio.bot.get_channel(studio.channel.id)
    assert isinstance(channel, discord.TextChannel)
    channel.nsfw = True  # as the gateway tells it; SimCord has no such channels
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", model="guided")
    await studio.all_delivered()
    [card] = studio.cards()
    [gallery] = [item for item in card.components[0].to_dict()["components"] if item["type"] == 12]
    assert gallery["items"][0]["spoiler"] is False


def test_a_guest_is_warned_of_what_comes_after_the_token() -> None:
    job = a_job()
    guest = replace(job, place=replace(job.place, member=False, token_expires_at=time.time() + 900))
    late = late_note(guest, Waiting(position=9, eta_s=1000.0))
    assert late is not None
    assert "/history" in late
    assert late_note(guest, Waiting(position=9, eta_s=60.0)) is None
    assert late_note(guest, Waiting(position=9, eta_s=None)) is None
    assert late_note(job, Waiting(position=9, eta_s=1000.0)) is None
