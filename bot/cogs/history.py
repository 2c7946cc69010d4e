"""``/history``: the person's own pictures, newest first, visible only to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.features.history import SEARCH_CHARACTERS, Page
from bot.ui.suggestions import models
from inference.catalog.entries import LONGEST_NAME, LONGEST_TITLE
from inference.errors import InferenceError

if TYPE_CHECKING:
    from bot.client import PictureBot


class History(commands.Cog):
    """Find a picture again."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="Your own pictures, newest first; only you see them")
    @app_commands.describe(
        search="Words from the prompt", model="Only pictures by this model", page="Which page; 1 is the newest"
    )
    async def history(
        self,
        interaction: discord.Interaction,
        search: app_commands.Range[str, 1, SEARCH_CHARACTERS] | None = None,
        model: app_commands.Range[str, 1, LONGEST_TITLE] | None = None,
        page: app_commands.Range[int, 1, 1000] | None = None,
    ) -> None:
        if model:
            try:
                model = self._bot.catalog.find(model).name
            except InferenceError:  # a model that is gone is known only by its name
                model = model[:LONGEST_NAME]
        found = Page(number=page or 1, search=" ".join((search or "").split()), model=model)
        await self._bot.history.show(interaction, found)

    @history.autocomplete("model")
    async def _models(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return models(interaction, typed)
