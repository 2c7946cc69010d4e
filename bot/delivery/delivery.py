"""Delivers a card to the person who ordered, by whatever way is still open.

For fifteen minutes an interaction's token edits the card anywhere; then the bot's own rights do, where it has any; then
comes a new message in the channel; then a direct message. What cannot be delivered is still in ``/history``, and so is
what belongs on a card that somebody has removed.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import aiohttp
import discord
from discord import ui

from bot.delivery.attachments import Attachment
from bot.store import Job, Place

log = logging.getLogger("bot.delivery.delivery")

TOKEN_MARGIN_S = 30.0
"""A token this close to its expiry is not relied on."""
RETRY_AFTER_S = (1.0, 5.0, 30.0)
"""Waits between attempts while Discord itself is in trouble."""
PACE_S = 1.0
"""Seconds between two cards that are removed from chat."""
TOO_MANY_REQUESTS = 429
"""Discord is only busy; this way is still open."""
UNKNOWN_MESSAGE = 10008
TOO_OLD = 30046
"""For a message that is older than an hour and was edited often since; it does not pass soon."""
NOBODY = discord.AllowedMentions.none()
TROUBLE = (discord.HTTPException, aiohttp.ClientError, OSError)
"""What a call to Discord may raise."""


class DiscordAway(Exception):  # noqa: N818 (a state of things more than an error)
    """Discord cannot be reached, or keeps answering that it is in trouble."""


class TakenAway(Exception):  # noqa: N818 (likewise)
    """Somebody removed the card from a channel that the bot still sees, so they do not want it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A card that can be sent more than once: ``view`` builds a fresh one, ``files`` are what it refers to. Every edit
    uploads them again: Discord looks for them nowhere else.

    ``without_files`` builds the card for places where Discord does not accept them.
    """

    view: Callable[[], ui.LayoutView]
    files: tuple[Attachment, ...] = ()
    without_files: Callable[[], ui.LayoutView] | None = None

    def unpacked(self) -> list[discord.File]:
        return [discord.File(io.BytesIO(file.content), filename=file.name) for file in self.files]


Way: TypeAlias = Callable[[], Awaitable[Place]]
"""Delivers a card to its person; returns where it is then."""
Wanted: TypeAlias = Callable[[], Awaitable[bool]]
"""Whether there is still something to deliver: an order may be deleted while Discord is being waited for."""


class Delivery:
    """Shows cards through one Discord client. Discord allows no text beside a card, so an edit removes the text."""

    def __init__(self, *, client: discord.Client) -> None:
        self._client = client

    async def show_progress(self, job: Job, parcel: Parcel) -> None:
        """Edit the card; if that is impossible, no harm is done yet."""
        try:
            await self._edit(job, parcel)
        except (TakenAway, *TROUBLE) as error:
            log.debug("progress of job %s not shown: %s", job.id, error)
        except Exception:  # discord.py raises errors of many kinds for answers that it does not expect
            log.exception("progress of job %s not shown", job.id)

    async def show_end(self, job: Job, parcel: Parcel, *, wanted: Wanted) -> Place | None:
        """Deliver the final card by the first way that is open; returns where it is then. None if no way is open and
        none will be, if the card was removed, or if it is no longer ``wanted``.

        Raises ``DiscordAway`` when Discord cannot be reached at all.
        """
        for way in self._ways(job, parcel):
            try:
                place = await _patiently(way, wanted)
            except discord.HTTPException as error:
                log.info("job %s: one way to deliver is closed: %s", job.id, error)
            except TakenAway:
                log.info("job %s: somebody removed its card; it is still in the history", job.id)
                return None
            except (DiscordAway, sqlite3.Error):
                raise
            except Exception:  # see show_progress
                log.exception("job %s: one way to deliver has failed", job.id)
            else:
                if place is not None and place.channel_id != job.place.channel_id:
                    await self._say_without_files(job, parcel)
                return place
        await self._say_without_files(job, parcel)
        return None

    async def _say_without_files(self, job: Job, parcel: Parcel) -> None:
        """Edit the card to which its files could not be delivered; else it would look as if still in progress."""
        if parcel.without_files is not None:
            await self.show_progress(job, Parcel(view=parcel.without_files))

    async def remove_cards(self, places: Iterable[Place]) -> None:
        """Remove cards from chat, slowly, as far as they still exist and are within reach."""
        for number, place in enumerate(places):
            if number:
                await asyncio.sleep(PACE_S)
            if within_reach(place):
                await self._remove_card(place)

    async def _remove_card(self, place: Place) -> None:
        assert place.message_id is not None
        if token_lives(place):
            try:
                await self._webhook(place).delete_message(place.message_id)
            except TROUBLE as error:
                log.info("message %s is not removed by its token: %s", place.message_id, error)
            except Exception:  # see show_progress
                log.exception("message %s is not removed by its token", place.message_id)
            else:
                return
        try:
            await self._channel(place).get_partial_message(place.message_id).delete()
        except TROUBLE as error:
            log.info("message %s stays: %s", place.message_id, error)
        except Exception:  # see show_progress
            log.exception("message %s stays", place.message_id)

    def _ways(self, job: Job, parcel: Parcel) -> Iterator[Way]:
        if token_lives(job.place):
            yield lambda: self._edit_by_token(job, parcel)
        if job.place.member:
            if job.place.message_id is not None:
                yield lambda: self._edit_by_right(job, parcel)
            yield lambda: self._send(self._channel(job.place), job, parcel)
        yield lambda: self._send_directly(job, parcel)

    async def _edit(self, job: Job, parcel: Parcel) -> None:
        if token_lives(job.place):
            await self._edit_by_token(job, parcel)
        elif within_reach(job.place):
            await self._edit_by_right(job, parcel)

    async def _edit_by_token(self, job: Job, parcel: Parcel) -> Place:
        assert job.place.message_id is not None
        try:
            await self._webhook(job.place).edit_message(  # type: ignore[call-overload]  # which forgets that a layout may replace text
                job.place.message_id,
                content=None,
                view=parcel.view(),
                attachments=parcel.unpacked(),
                allowed_mentions=NOBODY,
            )
        except discord.NotFound as error:
            if error.code == UNKNOWN_MESSAGE and not job.place.member:  # else ``_edit_by_right`` knows better
                raise TakenAway(job.id) from error
            raise
        return job.place

    async def _edit_by_right(self, job: Job, parcel: Parcel) -> Place:
        assert job.place.message_id is not None
        message = self._channel(job.place).get_partial_message(job.place.message_id)
        try:
            await message.edit(content=None, view=parcel.view(), attachments=parcel.unpacked(), allowed_mentions=NOBODY)
        except discord.NotFound as error:
            if error.code == UNKNOWN_MESSAGE:  # Discord gives another code if the channel is gone, too
                raise TakenAway(job.id) from error
            raise
        return job.place

    async def _send_directly(self, job: Job, parcel: Parcel) -> Place:
        user = self._client.get_user(job.user_id) or await self._client.fetch_user(job.user_id)
        return await self._send(user, job, parcel)

    async def _send(self, where: discord.abc.Messageable, job: Job, parcel: Parcel) -> Place:
        """The nonce lets Discord recognise a card that it already has, should the bot die before it records the
        sending. A message that the bot sent by itself is edited by its own right, never by an interaction's token."""
        nonce = job.id.replace("-", "")[:25]
        message = await where.send(view=parcel.view(), files=parcel.unpacked(), allowed_mentions=NOBODY, nonce=nonce)
        return replace(job.place, channel_id=message.channel.id, message_id=message.id, token=None, member=True)

    def _webhook(self, place: Place) -> discord.Webhook:
        assert place.token is not None
        return discord.Webhook.partial(place.application_id, place.token, client=self._client)

    def _channel(self, place: Place) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(place.channel_id, guild_id=place.guild_id)


def within_reach(place: Place) -> bool:
    """Whether the bot can edit and remove a card, as far as it knows."""
    return place.message_id is not None and (place.member or token_lives(place))


def token_lives(place: Place) -> bool:
    """Whether the interaction's token can still edit and remove a card."""
    alive = time.time() < place.token_expires_at - TOKEN_MARGIN_S
    return alive and place.token is not None and place.message_id is not None


def is_discords(error: discord.HTTPException) -> bool:
    """Whether the trouble is Discord's own and temporary."""
    return error.status >= 500 or (error.status == TOO_MANY_REQUESTS and error.code != TOO_OLD)


async def _patiently(way: Way, wanted: Wanted) -> Place | None:
    """Retry while the trouble is Discord's or the connection's; raises ``DiscordAway`` if it does not end."""
    waits_s = iter(RETRY_AFTER_S)
    while await wanted():
        try:
            return await way()
        except TROUBLE as error:
            if isinstance(error, discord.HTTPException) and not is_discords(error):
                raise
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise DiscordAway(str(error)) from error
        await asyncio.sleep(wait_s)
    return None
