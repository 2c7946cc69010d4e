"""``/queue`` and ``/cancel``: what is being drawn, and cancelling an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

if TYPE_CHECKING:
    from bot.client import PictureBot


class Queue(commands.Cog):
    """Look at the queue."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="What is being drawn, and who is waiting")
    async def queue(self, interaction: discord.Interaction) -> None:
        await self._bot.line.show(interaction)

    @app_commands.command(description="Cancel your newest order, or another one")
    @app_commands.describe(order="Which one; your newest if left out")
    async def cancel(self, interaction: discord.Interaction, order: str | None = None) -> None:
        await self._bot.line.cancel(interaction, order)

    @cancel.autocomplete("order")
    async def _orders(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return await self._bot.line.suggest(interaction, typed)
