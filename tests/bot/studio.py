"""The whole bot on a pretended Discord server, and people on it: real client, store, queue and worker process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import discord
import pytest
import simcord
from PIL import Image
from simcord.actors import MemberActor
from simcord.env import Env
from simcord.http import router

from bot import app
from bot.client import PictureBot
from bot.settings import ROOT, Settings
from bot.store import Job, JobState, Store, open_store
from bot.ui.replies import is_refusal
from inference.catalog import Catalog
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.stations import Patience
from inference.hub.fetching import Fetching
from inference.processes.handle import WorkerMain, WorkerProcess, WorkerSpec
from tests.bot import painter

PATIENCE = Patience(first_backoff_s=0.01, longest_backoff_s=0.1)
SECONDS = 120.0
"""How long a test waits for something to be shown before it fails."""


GALLERY = discord.ComponentType.media_gallery.value
THUMBNAIL = discord.ComponentType.thumbnail.value


class Studio:
    """A running bot, its store, and two people in its channel. ``restart`` kills it and starts it again."""

    def __init__(self, *, settings: Settings, store: Store, catalog: Catalog, painter_main: WorkerMain) -> None:
        self.settings = settings
        self.store = store
        self.catalog = catalog
        self._painter_main = painter_main
        self._tasks: list[asyncio.Task[None]] = []
        self.bot, self.dispatcher = self._compose()
        self.env: Env
        self.channel: Any
        self.ann: MemberActor
        self.ben: MemberActor

    def _compose(self) -> tuple[PictureBot, Dispatcher]:
        spec = WorkerSpec(catalog_path=self.settings.catalog, pictures_dir=self.settings.pictures_dir, device="cpu")
        dispatcher = Dispatcher(
            workers=[WorkerProcess(spec=spec, main=self._painter_main)],
            queue=FairQueue(limit=self.settings.queue_limit, limit_per_owner=self.settings.queue_limit_per_user),
            patience=PATIENCE,
            fetching=Fetching(
                catalog=self.catalog, catalog_path=self.settings.catalog, allowed=self.settings.downloads
            ),
        )
        return app.make_bot(self.settings, self.store, self.catalog, dispatcher), dispatcher

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Studio]:
        await self.bot.follower.resume()
        self.env = Env(self.bot, settle_timeout=60.0)
        await self.env.start()
        try:
            self._furnish()
            self._begin()
            yield self
        finally:
            await self.stop()
            await self.env.shutdown()
        surprises = [error for error in self.env.errors if not is_refusal(error)]
        if surprises:
            raise BaseExceptionGroup("the bot met with errors", surprises)

    def _furnish(self) -> None:
        self.guild = guild = self.env.create_guild("Studio")
        self.channel = guild.create_text_channel("pictures")
        self.ann = guild.add_member(self.env.create_user("ann"))
        self.ben = guild.add_member(self.env.create_user("ben"))
        self.mod = guild.add_member(
            self.env.create_user("mod"),
            roles=[guild.create_role("Mods", permissions=discord.Permissions(manage_messages=True))],
        )

    def _begin(self) -> None:
        self._tasks = [asyncio.create_task(self.dispatcher.run()), asyncio.create_task(self.bot.background.run())]

    async def stop(self) -> None:
        """End the bot as a kill does, without a word to anybody."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def restart(self) -> None:
        """Another bot object on the same database, as after a kill."""
        await self.stop()
        self.bot, self.dispatcher = self._compose()
        await self.bot.follower.resume()
        await self.env.restart_bot(self.bot)
        self._begin()

    def let_go(self) -> None:
        """Let orders with the prompt ``wait`` be drawn."""
        (self.settings.pictures_dir / "go").touch()

    async def settled(self, state: JobState) -> None:
        """Wait until every order has ended like this."""

        async def ended() -> bool:
            async with self.store._database.transaction():  # or else half of somebody else's might be seen
                jobs = await self.jobs()
            return bool(jobs) and all(job.state is state for job in jobs)

        await eventually(ended, self._what_is_there)

    async def all_delivered(self) -> None:
        """Wait until the database knows that every end was shown."""

        async def delivered() -> bool:
            return all(job.delivered_at is not None for job in await self.jobs())

        await eventually(delivered, self._what_is_there)

    # -- what is to be seen --------------------------------------------------------------------------------------------

    def cards(self) -> list[discord.Message]:
        """All messages in the channel that everybody sees, oldest first."""
        return [message for message in self.channel.history() if not message.flags.ephemeral]

    async def card(self, *, saying: str, index: int = -1) -> discord.Message:
        """The card, once it says something."""
        await until(lambda: any(self.cards()) and saying in text_of(self.cards()[index]), self._what_is_there)
        return self.cards()[index]

    async def pictures(self, *, index: int = -1, count: int = 1) -> list[Image.Image]:
        """The pictures of a card, once they are there."""
        await until(
            lambda: len(self.cards()) > 0 and len(self.cards()[index].attachments) == count, self._what_is_there
        )
        return await images_of(self.cards()[index])

    async def jobs(self) -> list[Job]:
        """Everything in the database, oldest first."""
        return await self.store.jobs._jobs("ORDER BY created_at")

    def _what_is_there(self) -> str:
        return (
            "\n---\n".join(text_of(card) or "(nothing)" for card in self.cards()) + "\n" + self.env.transcript()[-4000:]
        )


@asynccontextmanager
async def open_studio(
    settings: Settings, catalog: Catalog, *, painter_main: WorkerMain = painter.main
) -> AsyncIterator[Studio]:
    """A studio on a database of its own."""
    settings.pictures_dir.mkdir(parents=True, exist_ok=True)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        studio = Studio(settings=settings, store=store, catalog=catalog, painter_main=painter_main)
        async with studio.opened():
            yield studio


async def until(condition: Callable[[], bool], describe: Callable[[], str]) -> None:
    """Wait until something is so; fails with a description of how it is instead."""

    async def asked() -> bool:
        return condition()

    await eventually(asked, describe)


async def eventually(condition: Callable[[], Awaitable[bool]], describe: Callable[[], str]) -> None:
    """``until`` for what has to be waited for itself."""
    try:
        async with asyncio.timeout(SECONDS):
            while not await condition():  # noqa: ASYNC110 (the other side is a pretended Discord; it has no event to wait for)
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(describe()) from None


async def images_of(message: discord.Message) -> list[Image.Image]:
    """The attachments of a message as pictures."""
    return [Image.open(io.BytesIO(await attachment.read())).convert("RGB") for attachment in message.attachments]


def parts_of(message: Any) -> list[dict[str, Any]]:
    """The components of a message, those inside others too."""
    return list(walk([item.to_dict() if hasattr(item, "to_dict") else item for item in message.components]))


def text_of(message: Any) -> str:
    """Everything that a message says, one line for each text."""
    return "\n".join([message.content, *(item["content"] for item in parts_of(message) if "content" in item)]).strip()


def labels_of(message: Any) -> list[str]:
    """The buttons of a message."""
    return [item["label"] for item in parts_of(message) if item.get("type") == discord.ComponentType.button.value]


def said(result: Any) -> str:
    """Everything that somebody was answered."""
    answers = [result.response, *result.followups]
    return "\n".join(text_of(answer) for answer in answers if answer is not None)


def covers(message: Any) -> list[bool]:
    """Of every picture that a message shows, whether it is covered."""
    parts = parts_of(message)
    galleries = [item["spoiler"] for part in parts if part["type"] == GALLERY for item in part["items"]]
    return galleries + [part.get("spoiler", False) for part in parts if part["type"] == THUMBNAIL]


def refuse_files(monkeypatch: pytest.MonkeyPatch, *, but: int | None = None) -> None:
    """Have Discord take no message with files, as if it found what they show explicit, ``but`` in this channel."""
    check = router._check_faults

    def look(backend: simcord.Backend, method: str, path: str) -> None:
        check(backend, method, path)
        body = backend.http_requests[-1].json
        if isinstance(body, dict) and body.get("attachments") and f"/channels/{but}/" not in path:
            raise simcord.BackendError(403, 20009, "Explicit content cannot be sent to the desired recipient(s)")

    monkeypatch.setattr(router, "_check_faults", look)


def age_restricted(studio: Studio) -> None:
    """Have the channel be for adults alone."""
    channel = studio.bot.get_channel(studio.channel.id)
    assert isinstance(channel, discord.TextChannel)
    channel.nsfw = True  # as the gateway tells it; SimCord has no such channels


def menu_of(message: Any, verb: str) -> str:
    """The custom id of a message's first menu of this kind."""
    return next(item["custom_id"] for item in parts_of(message) if item.get("custom_id", "").startswith(f"{verb}:"))


async def delete_newest(who: Any, shown: Any) -> Any:
    """Choose Delete in a history's first menu, and mean it; returns what is shown then."""
    asked = await who.select(shown, values=[choice_of(shown, "delete")], custom_id=menu_of(shown, "history_act"))
    return (await who.click(asked.response, label="Delete for good")).response


def choice_of(message: Any, verb: str) -> str:
    """The value of a message's first choice of this kind."""
    values = [option["value"] for item in parts_of(message) for option in item.get("options", [])]
    return next(value for value in values if value.partition(":")[0] == verb)


def walk(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Components with everything inside them."""
    for part in parts:
        yield part
        yield from walk(part.get("components", []))
        if "accessory" in part:
            yield part["accessory"]
