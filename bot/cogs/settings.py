"""``/settings``: the rules of a server, for its managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.rules import ChannelModels, Explicit, Scope
from bot.ui.suggestions import choices, models
from inference.contract import MAX_COUNT, MAX_STEPS

if TYPE_CHECKING:
    from bot.client import PictureBot

LARGEST_SIDE = 8192


@app_commands.allowed_contexts(guilds=True, dms=False, private_channels=False)
@app_commands.default_permissions(manage_guild=True)
class Settings(commands.GroupCog, group_name="settings", group_description="How the bot works on this server"):
    """Rules of a server."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot
        super().__init__()

    @app_commands.command(description="Show the settings of this server")
    async def show(self, interaction: discord.Interaction) -> None:
        await self._bot.house.show(interaction)

    @app_commands.command(description="Which model draws where neither the channel nor the person has chosen one")
    @app_commands.describe(name="Which model")
    async def model(self, interaction: discord.Interaction, name: str) -> None:
        await self._bot.choosing.use(interaction, name=name, scope=Scope.SERVER)

    @app_commands.command(description="Hide a model on this server")
    @app_commands.describe(model="Which model")
    async def hide(self, interaction: discord.Interaction, model: str) -> None:
        await self._bot.house.hide(interaction, model)

    @app_commands.command(description="Bring a hidden model back")
    @app_commands.describe(model="Which model")
    async def allow(self, interaction: discord.Interaction, model: str) -> None:
        await self._bot.house.allow(interaction, model)

    @app_commands.command(description="Limit how much one person may ask for; 0 removes a limit")
    @app_commands.describe(
        waiting="Most orders that one person may have waiting",
        side="Longest side of a picture in pixels",
        steps="Most steps for one picture",
        pictures="Most pictures in one order",
    )
    async def limits(
        self,
        interaction: discord.Interaction,
        waiting: app_commands.Range[int, 0, 1000] | None = None,
        side: app_commands.Range[int, 0, LARGEST_SIDE] | None = None,
        steps: app_commands.Range[int, 0, MAX_STEPS] | None = None,
        pictures: app_commands.Range[int, 0, MAX_COUNT] | None = None,
    ) -> None:
        await self._bot.house.limits(
            interaction, waiting_limit=waiting, largest_side=side, most_steps=steps, most_pictures=pictures
        )

    @app_commands.command(name="channel-models", description="Who may choose a channel's model")
    @app_commands.describe(who="Who may choose it")
    @app_commands.choices(
        who=[
            app_commands.Choice(name="anyone who can manage channels", value=ChannelModels.MODERATORS.value),
            app_commands.Choice(name="everyone", value=ChannelModels.EVERYONE.value),
        ]
    )
    async def channel_models(self, interaction: discord.Interaction, who: str) -> None:
        await self._bot.house.channel_models(interaction, ChannelModels(who))

    @app_commands.command(description="What to do with possibly explicit pictures outside age-restricted channels")
    @app_commands.describe(policy="What to do with them")
    @app_commands.choices(
        policy=[
            app_commands.Choice(name="not shown", value=Explicit.BLOCK.value),
            app_commands.Choice(name="covered until clicked", value=Explicit.SPOILER.value),
            app_commands.Choice(name="shown", value=Explicit.ALLOW.value),
        ]
    )
    async def explicit(self, interaction: discord.Interaction, policy: str) -> None:
        await self._bot.house.explicit(interaction, Explicit(policy))

    @app_commands.command(description="Reset all settings to the bot's defaults")
    async def reset(self, interaction: discord.Interaction) -> None:
        await self._bot.house.reset(interaction)

    @model.autocomplete("name")
    @hide.autocomplete("model")
    async def _shown(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return models(interaction, typed)

    @allow.autocomplete("model")
    async def _hidden(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return choices([(entry.title, entry.name) for entry in self._bot.house.hidden(interaction)], typed)
