"""``/history``: the person's own pictures, newest first, for their eyes only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

if TYPE_CHECKING:
    from bot.client import PictureBot


class History(commands.Cog):
    """Find a picture again."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="Your own pictures, newest first; only you see them")
    @app_commands.describe(page="Which page, 1 is the newest")
    async def history(
        self, interaction: discord.Interaction, page: app_commands.Range[int, 1, 1000] | None = None
    ) -> None:
        await self._bot.history.show(interaction, page=page or 1)
