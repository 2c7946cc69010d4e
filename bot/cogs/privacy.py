"""``/privacy``: a copy of one's data, and its deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

if TYPE_CHECKING:
    from bot.client import PictureBot


class Privacy(commands.GroupCog, group_name="privacy", group_description="What I remember about you"):
    """Hand out or forget what is known about a person."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot
        super().__init__()

    @app_commands.command(description="All your pictures and data as ZIP files")
    @app_commands.describe(part="Which part to start from, if there are several")
    async def export(self, interaction: discord.Interaction, part: app_commands.Range[int, 1, 10_000] = 1) -> None:
        await self._bot.privacy.export(interaction, first=part)

    @app_commands.command(description="Delete all your pictures and everything that I remember about you")
    async def delete(self, interaction: discord.Interaction) -> None:
        await self._bot.privacy.ask(interaction)
