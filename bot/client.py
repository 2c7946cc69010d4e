"""The Discord client: registers commands and buttons, and syncs the command tree with Discord when it has changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from itertools import count
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.background import Background
from bot.cogs import COGS
from bot.delivery.delivery import TROUBLE, Delivery, is_discords
from bot.delivery.endings import Endings
from bot.delivery.following import Follower
from bot.features.choosing import Choosing, Use
from bot.features.history import Act, History, ReallyDelete, Turn
from bot.features.house import House
from bot.features.line import Line
from bot.features.menus import MENUS
from bot.features.models import Models, Page
from bot.features.privacy import Forget, Keep, Privacy
from bot.features.recipes import Recipes
from bot.features.seedbook import SeedBook
from bot.generate import Generator
from bot.store import Store
from bot.ui import comparison_card, modals
from bot.ui.buttons import ALL
from bot.ui.replies import answer_error
from bot.words import speak, translated
from inference.catalog import Catalog
from inference.dispatch.dispatcher import Dispatcher

log = logging.getLogger("bot.client")

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0
"""Delay between attempts to reach Discord; it doubles each time, up to the longest."""


class Tree(app_commands.CommandTree[discord.Client]):
    """The commands; each one, and any error in it, is answered in the language of the person who gave it."""

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        speak(str(interaction.locale))
        return True

    async def on_error(self, interaction: discord.Interaction, error: app_commands.AppCommandError, /) -> None:
        await answer_error(interaction, error)


class CommandWords(app_commands.Translator):
    """Names and descriptions of commands, from the same catalogues as everything else that the bot says."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, _: app_commands.TranslationContextTypes, /
    ) -> str | None:
        said = translated(string.message, locale.value)
        return None if said == string.message else said


class PictureBot(commands.Bot):
    """The bot on Discord. It reads no messages and asks for no privileged intents.

    What works through this client, the attributes named below, is set after construction.
    ``proxy`` is used for every connection to Discord.
    ``always_sync`` syncs the commands at every start, for a server that forgets them.
    """

    background: Background
    choosing: Choosing
    delivery: Delivery
    dispatcher: Dispatcher
    endings: Endings
    follower: Follower
    generator: Generator
    history: History
    house: House
    line: Line
    models: Models
    privacy: Privacy
    recipes: Recipes
    seed_book: SeedBook

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        always_sync: bool = False,
        proxy: str | None = None,
    ) -> None:
        super().__init__(
            command_prefix=(),
            intents=discord.Intents(guilds=True),
            allowed_mentions=discord.AllowedMentions.none(),
            help_command=None,
            tree_cls=Tree,
            allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True),
            proxy=proxy,
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
        )
        self.store = store
        self.catalog = catalog
        self._always_sync = always_sync

    async def log_in(self, token: str) -> None:
        """Log in, retrying for as long as Discord cannot be reached; raises ``discord.LoginFailure`` if it refuses."""
        for attempt in count():
            try:
                await self.login(token)
            except TROUBLE as error:
                if isinstance(error, discord.HTTPException) and not is_discords(error):
                    raise
                await self.http.close()
                self.http.connector = discord.utils.MISSING  # the next login needs an open one
                await _retry(attempt, error)
            else:
                return

    async def connect(self, *, reconnect: bool = True) -> None:
        """Stay connected, retrying for as long as the gateway cannot be reached; raises ``discord.ConnectionClosed`` if
        it refuses the bot.

        discord.py resumes its connection whatever broke it, but fails if the very first one does.
        """
        for attempt in count():
            try:
                await super().connect(reconnect=reconnect)
            except AttributeError as error:
                if self.ws or error.__context__ is None:
                    raise
                await _retry(attempt, error.__context__)
            else:
                return

    async def setup_hook(self) -> None:
        if not self.cogs:  # an interrupted login comes here again
            await self._register()
        await self._sync()

    async def _register(self) -> None:
        self.add_dynamic_items(*ALL, *comparison_card.ALL, Turn, Act, ReallyDelete, Page, Use, Forget, Keep)
        for cog in COGS:
            await self.add_cog(cog(self))
        for menu in MENUS:
            self.tree.add_command(menu)
        await self.tree.set_translator(CommandWords())

    async def on_ready(self) -> None:
        log.info("connected as %s to %d servers", self.user, len(self.guilds))

    async def on_interaction(self, interaction: discord.Interaction[PictureBot]) -> None:
        if interaction.type is discord.InteractionType.modal_submit:
            await modals.submitted(interaction)

    async def _sync(self) -> None:
        """Sync the commands if they differ from those synced last: syncing is strictly rate-limited."""
        known = await self.store.remembered("commands")
        present = f"{self.application_id}:{await _digest(self.tree)}"
        if self._always_sync or known != present:
            await self.tree.sync()
            await self.store.remember("commands", present)


async def _retry(attempt: int, error: BaseException | None) -> None:
    """Wait before the next attempt to reach Discord."""
    wait_s = min(FIRST_RETRY_S * 2 ** min(attempt, 10), LONGEST_RETRY_S)
    log.warning("Discord cannot be reached (%s); the next attempt is in %g s", error, wait_s)
    await asyncio.sleep(wait_s)


async def _digest(tree: app_commands.CommandTree[Any]) -> str:
    """Changes with anything that a sync would send: the commands, and their words in every language."""
    assert tree.translator is not None  # set before the first sync
    described = [await command.get_translated_payload(tree, tree.translator) for command in tree.get_commands()]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
