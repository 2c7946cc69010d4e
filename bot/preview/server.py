"""A simulated Discord server with the bot and one person in it, for as long as the preview is open.

SimCord plays Discord. To SimCord, whatever the bot starts while it answers an interaction belongs to that interaction,
which counts as answered once all of it has ended. A task that lives longer has to be started by the code that enters
``preview``, and inside it: one started earlier would talk to the real Discord.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.preview.page import Page
from bot.ui.replies import is_refusal

SERVER = "Picture studio"
CHANNELS = {"pictures": "Type /imagine, then what you want to see.", "general": None}
PERSON = "You"
BOT = "Picture bot"


class PreviewError(Exception):
    """The preview cannot be opened; the message says why and what to do about it."""


@asynccontextmanager
async def preview(bot: commands.Bot, *, port: int) -> AsyncIterator[Page]:
    """Log the bot in without Discord and yield its page, which only this machine can reach.

    ``port`` 0 takes any free one. Raises ``PreviewError``.
    """
    env = _load_simcord().Env(bot, check_errors=False)
    person, channel = _furnish(env)
    _set_clock(env)
    await env.start()
    _let_refuse(bot)
    try:
        with env.time_context():
            async with _opened(env, channel, person, port) as page:
                keeper = asyncio.create_task(page.keep_fresh(), name="preview")
                try:
                    yield page
                finally:
                    keeper.cancel()
                    with suppress(asyncio.CancelledError):
                        await keeper
    finally:
        await env.shutdown()


@asynccontextmanager
async def _opened(env: Any, channel: Any, person: Any, port: int) -> AsyncIterator[Page]:
    session = env.preview(channel, viewers=[person], layout="channel", port=port or None)
    try:
        await session.__aenter__()
    except _load_simcord().SetupError as error:
        raise PreviewError(
            f"The local preview cannot be opened: {error}. PREVIEW_PORT is {port}; 0 means any free port."
        ) from error
    try:
        yield Page(env, session)
    finally:
        await session.close()


def _load_simcord() -> Any:
    """SimCord, imported only where it is used: importing it creates a client, which warns about its intents."""
    states = logging.getLogger("discord.state")
    states.disabled = True
    try:
        import simcord
    finally:
        states.disabled = False
    return simcord


def _furnish(env: Any) -> tuple[Any, Any]:
    """A person in a server with channels. Created while the clock stands at its fixed start, they have the same ids in
    every run, so pictures and orders of earlier runs stay theirs."""
    env.backend.edit_bot_profile(BOT)
    user = env.create_user(PERSON.lower(), global_name=PERSON)
    server = env.create_guild(SERVER, owner=user)
    channels = [server.create_text_channel(name, topic=topic) for name, topic in CHANNELS.items()]
    return server.add_member(user), channels[0]


def _let_refuse(bot: commands.Bot) -> None:
    """SimCord takes everything that reaches the commands' error handler for a fault: the page then says that the
    outcome is uncertain, and keeps the command. A refusal is an answer like any other."""
    answer, report = type(bot.tree).on_error, bot.tree.on_error

    async def on_error(interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /) -> None:
        await (answer(bot.tree, interaction, error) if is_refusal(error) else report(interaction, error))

    bot.tree.on_error = on_error  # type: ignore[method-assign]


def _set_clock(env: Any) -> None:
    """Bring SimCord's clock to the present, so that no message of this run has the id of an earlier one's."""
    env.backend.advance_clock((datetime.now(UTC) - env.now()).total_seconds())
