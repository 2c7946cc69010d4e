"""``/model``: look at the models, and choose one for oneself, a channel or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.rules import Scope
from bot.ui.suggestions import models

if TYPE_CHECKING:
    from bot.client import PictureBot

SCOPES = [
    app_commands.Choice(name="me", value=Scope.USER.value),
    app_commands.Choice(name="this channel", value=Scope.CHANNEL.value),
    app_commands.Choice(name="this server", value=Scope.SERVER.value),
]


class Model(commands.GroupCog, group_name="model", group_description="Which model draws"):
    """Choose models."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot
        super().__init__()

    @app_commands.command(name="list", description="All models, with examples")
    async def list_(self, interaction: discord.Interaction) -> None:
        await self._bot.models.show_list(interaction, page=1)

    @app_commands.command(description="Everything about one model")
    @app_commands.describe(name="Which model")
    async def info(self, interaction: discord.Interaction, name: str) -> None:
        await self._bot.models.info(interaction, name=name)

    @app_commands.command(description="Choose the model that draws")
    @app_commands.describe(
        name="Which model", scope="For whom; for a channel or a server you need permission to manage it"
    )
    @app_commands.choices(scope=SCOPES)
    async def use(self, interaction: discord.Interaction, name: str, scope: str = Scope.USER.value) -> None:
        await self._bot.choosing.use(interaction, name=name, scope=Scope(scope))

    @app_commands.command(description="Undo a choice of model")
    @app_commands.describe(scope="For whom; for a channel or a server you need permission to manage it")
    @app_commands.choices(scope=SCOPES)
    async def reset(self, interaction: discord.Interaction, scope: str = Scope.USER.value) -> None:
        await self._bot.choosing.reset(interaction, scope=Scope(scope))

    @app_commands.command(description="Which model draws here, and why")
    async def which(self, interaction: discord.Interaction) -> None:
        await self._bot.choosing.which(interaction)

    @info.autocomplete("name")
    @use.autocomplete("name")
    async def _models(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return models(interaction, typed)
