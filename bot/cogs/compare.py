"""``/compare``: one seed, side by side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.ordering.comparing import COMMA, Axes
from bot.ordering.flags import RANDOM, Options
from bot.ui.suggestions import list_of_loras, list_of_models
from inference.contract import MAX_PROMPT_CHARACTERS, MAX_SEED

if TYPE_CHECKING:
    from bot.client import PictureBot


class Compare(commands.Cog):
    """See what a model, a LoRA or a number does."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="Compare models, LoRAs, steps, guidance or wordings side by side, with one seed")
    @app_commands.describe(
        prompt="What the pictures should show; alternatives in braces, separated by commas, are compared",
        models="Names, separated by commas; if you name nothing to compare, up to 9 models on this machine",
        loras="Names, separated by commas, each with a strength if you like (ink:0.5); - means no LoRA",
        steps="Numbers, separated by commas",
        guidance="Numbers, separated by commas",
        seed="The same seed gives the same picture; random if left out",
    )
    async def compare(
        self,
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, MAX_PROMPT_CHARACTERS],
        models: str | None = None,
        loras: str | None = None,
        steps: str | None = None,
        guidance: str | None = None,
        seed: app_commands.Range[int, RANDOM, MAX_SEED] | None = None,
    ) -> None:
        axes = Axes(models=models, loras=loras, steps=steps, guidance=guidance)
        await self._bot.generator.compare(interaction, Options(prompt=prompt, seed=seed), axes)

    @compare.autocomplete("models")
    async def _models(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return list_of_models(interaction, typed)

    @compare.autocomplete("loras")
    async def _loras(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        first = re.split(COMMA, getattr(interaction.namespace, "models", None) or "")[0].strip()
        return list_of_loras(interaction, typed, named=first)
