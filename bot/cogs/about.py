"""``/about`` and ``/help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.features.about import about, help_text

if TYPE_CHECKING:
    from bot.client import PictureBot


class About(commands.Cog):
    """Say what the bot is and can do."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="About this bot")
    async def about(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(about(self._bot.catalog), ephemeral=True)

    @app_commands.command(description="Everything that this bot can do")
    async def help(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(help_text(self._bot.tree), ephemeral=True)
