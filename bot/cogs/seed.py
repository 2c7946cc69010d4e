"""``/seed``: a seed lock and a book of seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.features.seedbook import NAME_CHARACTERS
from inference.contract import MAX_COUNT, MAX_SEED

if TYPE_CHECKING:
    from bot.client import PictureBot

WHICH_PICTURE = "Which picture of your last order; the first if left out"


class Seed(commands.GroupCog, group_name="seed", group_description="Your seeds: the same seed gives the same picture"):
    """Lock and save seeds."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot
        super().__init__()

    @app_commands.command(description="Which seed your next picture uses")
    async def show(self, interaction: discord.Interaction) -> None:
        await self._bot.seed_book.show(interaction)

    @app_commands.command(description="Use one seed for all your pictures until you unlock it")
    @app_commands.describe(
        seed="The seed; if left out, that of the first picture of your last order", picture=WHICH_PICTURE
    )
    async def lock(
        self,
        interaction: discord.Interaction,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        picture: app_commands.Range[int, 1, MAX_COUNT] | None = None,
    ) -> None:
        await self._bot.seed_book.lock(interaction, seed, picture)

    @app_commands.command(description="Unlock: a new random seed for every picture")
    async def random(self, interaction: discord.Interaction) -> None:
        await self._bot.seed_book.random(interaction)

    @app_commands.command(description="Lock the seed that follows your current one")
    async def next(self, interaction: discord.Interaction) -> None:
        await self._bot.seed_book.next(interaction)

    @app_commands.command(description="Save a seed in your seed book")
    @app_commands.describe(
        name="What to call it",
        seed="The seed; if left out, your locked one, or that of your last order's first picture",
        picture=WHICH_PICTURE,
    )
    async def save(
        self,
        interaction: discord.Interaction,
        name: app_commands.Range[str, 1, NAME_CHARACTERS],
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        picture: app_commands.Range[int, 1, MAX_COUNT] | None = None,
    ) -> None:
        await self._bot.seed_book.save(interaction, name, seed, picture)

    @app_commands.command(description="Lock a seed from your seed book")
    @app_commands.describe(name="Which one")
    async def use(self, interaction: discord.Interaction, name: str) -> None:
        await self._bot.seed_book.use(interaction, name)

    @app_commands.command(name="list", description="Your seed book")
    async def list_(self, interaction: discord.Interaction) -> None:
        await self._bot.seed_book.show_list(interaction)

    @app_commands.command(description="Remove a seed from your seed book")
    @app_commands.describe(name="Which one")
    async def forget(self, interaction: discord.Interaction, name: str) -> None:
        await self._bot.seed_book.forget(interaction, name)

    @use.autocomplete("name")
    @forget.autocomplete("name")
    async def _names(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return await self._bot.seed_book.suggest(interaction.user.id, typed)
