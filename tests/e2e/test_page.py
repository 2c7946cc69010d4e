"""The preview's page between a busy bot and an impatient person."""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import discord
import pytest
from discord import ui
from discord.ext import commands

from bot.preview import Page, PreviewError, preview


class Press(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"press:(?P<what>\w+)"):
    """A button that counts who pressed what."""

    def __init__(self, what: str) -> None:
        super().__init__(ui.Button(label=what, custom_id=f"press:{what}"))
        self.what = what

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: Any, match: re.Match[str], /) -> Self:
        return cls(match["what"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        interaction.client.pressed.append(self.what)
        await interaction.response.defer()


class Bot(commands.Bot):
    """A bot with cards to press."""

    def __init__(self) -> None:
        super().__init__(command_prefix=(), intents=discord.Intents(guilds=True))
        self.pressed: list[str] = []

    async def setup_hook(self) -> None:
        self.add_dynamic_items(Press)

    @property
    def channel(self) -> discord.TextChannel:
        return self.guilds[0].text_channels[0]


def card(text: str, *buttons: str) -> ui.LayoutView:
    view = ui.LayoutView(timeout=None)
    view.add_item(ui.Container(ui.TextDisplay(text), ui.ActionRow(*(Press(button) for button in buttons))))
    return view


class Tab:
    """A browser tab as the bot's side knows it: it acts on what it has last seen, and looks again when told to."""

    def __init__(self, http: aiohttp.ClientSession, page: Page) -> None:
        self._http = http
        self._address, _, capability = page.url.partition("/#")
        self._headers = {"X-Simcord-Capability": capability}
        self._sequence = 0
        self.seen: dict[str, Any] = {}

    async def open(self) -> Self:
        async with self._http.post(f"{self._address}/api/pages", json={}, headers=self._headers) as answer:
            self.seen = await answer.json()
        self._headers["X-Simcord-Context"] = self.seen["context"]["id"]
        return self

    async def look(self) -> None:
        async with self._http.get(f"{self._address}/api/state", headers=self._headers) as answer:
            self.seen = await answer.json()

    async def press(self, message: discord.Message, what: str) -> str:
        """Press a button as it was last seen; returns what became of it."""
        [container] = self.seen["messages"][str(message.id)]["components"]
        [button] = [button for button in container["components"][-1]["components"] if button["label"] == what]
        self._sequence += 1
        action = {
            "kind": "click",
            "control_key": button["control_key"],
            "target_id": str(message.id),
            "protocol_version": 3,
            "sequence": self._sequence,
            "request_id": str(uuid.uuid4()),
            "generation": self.seen["context"]["generation"],
            "bot_generation": self.seen["botGeneration"],
            "published_revision": self.seen["publishedRevision"],
        }
        async with self._http.post(f"{self._address}/api/action", json=action, headers=self._headers) as answer:
            assert answer.status == 200
            outcome = await answer.json()
        if outcome["rejected"]:
            self._sequence -= 1
        return str(outcome["settlement"])


@asynccontextmanager
async def opened(bot: Bot) -> AsyncIterator[tuple[Page, Tab]]:
    async with preview(bot, port=0) as page, aiohttp.ClientSession() as http:
        yield page, await Tab(http, page).open()


async def until_shown(tab: Tab, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in str(tab.seen["messages"]):
            await asyncio.sleep(0.05)
            await tab.look()


async def test_what_the_bot_sends_is_shown_without_being_asked_for() -> None:
    bot = Bot()
    async with opened(bot) as (_, tab):
        message = await bot.channel.send(view=card("drawing", "cancel"))
        await until_shown(tab, "drawing")
        await message.edit(view=card("done", "reroll"))
        await until_shown(tab, "done")


async def test_a_card_can_be_pressed_while_another_one_is_changing() -> None:
    bot = Bot()
    async with opened(bot) as (page, tab):
        still = await bot.channel.send(view=card("still", "reroll"))
        moving = await bot.channel.send(view=card("step 0", "cancel"))
        await until_shown(tab, "step 0")
        for step in range(1, 4):
            await moving.edit(view=card(f"step {step}", "cancel"))
            await page._publish()
            assert await tab.press(still, "reroll") == "settled"
        assert bot.pressed == ["reroll"] * 3


async def test_a_card_that_has_changed_meanwhile_is_not_pressed_blindly() -> None:
    bot = Bot()
    async with opened(bot) as (page, tab):
        message = await bot.channel.send(view=card("drawing", "cancel"))
        await until_shown(tab, "drawing")
        await message.edit(view=card("done", "delete"))
        await page._publish()
        assert await tab.press(message, "cancel") == "rejected"
        assert bot.pressed == []


async def test_pressing_and_publishing_wait_for_each_other() -> None:
    bot = Bot()
    async with opened(bot) as (page, tab):
        message = await bot.channel.send(view=card("still", "reroll"))
        await until_shown(tab, "still")
        _, outcome, _ = await asyncio.gather(page._publish(), tab.press(message, "reroll"), page._publish())
        assert outcome == "settled"


async def test_the_person_and_the_server_are_the_same_in_every_run_and_no_message_is() -> None:
    places, messages = set(), set()
    for _ in range(2):
        bot = Bot()
        async with preview(bot, port=0):
            guild = bot.guilds[0]
            assert bot.user is not None
            places.add((bot.user.id, bot.application_id, guild.id, guild.owner_id, bot.channel.id))
            messages.add((await bot.channel.send("hello")).id)
    assert (len(places), len(messages)) == (1, 2)


async def test_ending_the_session_in_the_page_is_noticed() -> None:
    async with preview(Bot(), port=0) as page:
        await page._preview.close()
        async with asyncio.timeout(5):
            await page.closed()


async def test_a_port_in_use_is_refused_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PreviewError, match=rf"{port}.*PREVIEW_PORT"):
            async with preview(Bot(), port=port):
                pass
