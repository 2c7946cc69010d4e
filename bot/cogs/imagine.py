"""``/imagine``: a prompt and how to draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.ordering.flags import RANDOM, Options
from bot.ui.suggestions import aspects, loras, models
from inference.contract import MAX_COUNT, MAX_PROMPT_CHARACTERS, MAX_SEED, MAX_STEPS, Adapter

if TYPE_CHECKING:
    from bot.client import PictureBot

LARGEST_SIDE = 8192


class Imagine(commands.Cog):
    """Draw pictures."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="Draw a picture from a prompt")
    @app_commands.describe(
        prompt="What the picture should show",
        negative="What the picture should not show; only some models take this into account",
        model="Which model draws it",
        aspect="The picture's shape, for example 3:2, or its size, for example 512x768",
        width="Width in pixels",
        height="Height in pixels",
        count="How many pictures",
        steps="How many steps; a few are enough",
        guidance="How closely to follow the prompt; the range depends on the model",
        seed="The same seed gives the same picture; random if left out",
        lora="A LoRA to draw with",
        strength="How strongly to apply the LoRA; 1 is as it was trained",
        spoiler="Cover the picture until it is clicked",
    )
    @app_commands.rename(strength="lora_strength")
    async def imagine(
        self,
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, MAX_PROMPT_CHARACTERS],
        negative: app_commands.Range[str, 1, MAX_PROMPT_CHARACTERS] | None = None,
        model: str | None = None,
        aspect: str | None = None,
        width: app_commands.Range[int, 8, LARGEST_SIDE] | None = None,
        height: app_commands.Range[int, 8, LARGEST_SIDE] | None = None,
        count: app_commands.Range[int, 1, MAX_COUNT] | None = None,
        steps: app_commands.Range[int, 1, MAX_STEPS] | None = None,
        guidance: app_commands.Range[float, 1, 20] | None = None,
        seed: app_commands.Range[int, RANDOM, MAX_SEED] | None = None,
        lora: str | None = None,
        strength: app_commands.Range[float, -2, 2] | None = None,
        spoiler: bool | None = None,
    ) -> None:
        adapters = () if lora is None else (Adapter(name=lora, strength=1.0 if strength is None else strength),)
        options = Options(
            prompt=prompt,
            negative=negative,
            model=model,
            aspect=aspect,
            width=width,
            height=height,
            count=count,
            steps=steps,
            guidance=guidance,
            seed=seed,
            adapters=adapters,
            strength=strength if lora is None else None,
            spoiler=spoiler,
        )
        await self._bot.generator.imagine(interaction, options)

    @imagine.autocomplete("model")
    async def _models(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return models(interaction, typed)

    @imagine.autocomplete("seed")
    async def _seeds(self, interaction: discord.Interaction[Any], typed: Any) -> list[app_commands.Choice[int]]:
        return await self._bot.seed_book.suggest_seeds(interaction.user.id, str(typed))

    @imagine.autocomplete("aspect")
    async def _aspects(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return aspects(interaction, typed, named=getattr(interaction.namespace, "model", None))

    @imagine.autocomplete("lora")
    async def _loras(self, interaction: discord.Interaction[Any], typed: str) -> list[app_commands.Choice[str]]:
        return loras(interaction, typed, named=getattr(interaction.namespace, "model", None))
