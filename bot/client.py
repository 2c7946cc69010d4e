"""The Discord client: commands and buttons registered, the command tree told to Discord when it has changed."""

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
"""Between attempts to reach Discord; doubled each time."""


class Tree(app_commands.CommandTree[discord.Client]):
    """The commands; each is answered in the language of whoever gave it, whatever goes wrong with it too."""

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        speak(str(interaction.locale))
        return True

    async def on_error(self, interaction: discord.Interaction, error: app_commands.AppCommandError, /) -> None:
        await answer_error(interaction, error)


class CommandWords(app_commands.Translator):
    """Names and descriptions of commands, from the same catalogues as everything that the bot says."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, _: app_commands.TranslationContextTypes, /
    ) -> str | None:
        said = translated(string.message, locale.value)
        return None if said == string.message else said


class PictureBot(commands.Bot):
    """The bot on Discord. It reads no messages and asks for no privileged intents.

    What works through this client is given after construction: the attributes named below.
    ``proxy`` is asked for every connection to Discord.
    ``always_sync`` tells Discord the commands at every start, for a server that forgets them.
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
        """Log in, however long Discord cannot be reached; raises ``discord.LoginFailure`` where it does not want to."""
        for attempt in count():
            try:
                await self.login(token)
            except TROUBLE as error:
                if isinstance(error, discord.HTTPException) and not is_discords(error):
                    raise
                await self.http.close()
                self.http.connector = discord.utils.MISSING  # the next login needs one that is open
                await _retry(attempt, error)
            else:
                return

    async def connect(self, *, reconnect: bool = True) -> None:
        """Stay connected, however long the gateway cannot be reached; raises ``discord.ConnectionClosed`` where it does
        not want the bot.

        discord.py resumes its connection whatever broke it, and fails where there has been none yet.
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
        if not self.cogs:  # a login that was interrupted comes here again
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
        """Tell Discord the commands if they are not those it was told last: doing so is rate-limited strictly."""
        known = await self.store.remembered("commands")
        present = f"{self.application_id}:{await _digest(self.tree)}"
        if self._always_sync or known != present:
            await self.tree.sync()
            await self.store.remember("commands", present)


async def _retry(attempt: int, error: BaseException | None) -> None:
    """Let the time pass until the next attempt to reach Discord."""
    wait_s = min(FIRST_RETRY_S * 2 ** min(attempt, 10), LONGEST_RETRY_S)
    log.warning("Discord cannot be reached (%s); the next attempt is in %g s", error, wait_s)
    await asyncio.sleep(wait_s)


async def _digest(tree: app_commands.CommandTree[Any]) -> str:
    """Changes with whatever Discord would be told: the commands, and their words in every language."""
    assert tree.translator is not None  # set before the commands are told
    described = [await command.get_translated_payload(tree, tree.translator) for command in tree.get_commands()]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
