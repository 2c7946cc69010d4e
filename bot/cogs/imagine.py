"""``/imagine``: a prompt and how to draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.requests import Options, suggest_models
from inference.contract import MAX_COUNT, MAX_PROMPT_CHARACTERS, MAX_SEED, MAX_STEPS

if TYPE_CHECKING:
    from bot.client import PictureBot


class Imagine(commands.Cog):
    """Draw pictures."""

    def __init__(self, bot: PictureBot) -> None:
        self._bot = bot

    @app_commands.command(description="Draw a picture from a prompt")
    @app_commands.describe(
        prompt="What the picture should show",
        model="Which model draws it",
        seed="The same seed gives the same picture; random if left out",
        count="How many pictures",
        steps="How many steps; few are enough",
        guidance="How closely to follow the prompt; the range depends on the model",
        size="Width and height in pixels, for example 512x768",
    )
    async def imagine(
        self,
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, MAX_PROMPT_CHARACTERS],
        model: str | None = None,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        count: app_commands.Range[int, 1, MAX_COUNT] | None = None,
        steps: app_commands.Range[int, 1, MAX_STEPS] | None = None,
        guidance: app_commands.Range[float, 1, 20] | None = None,
        size: str | None = None,
    ) -> None:
        options = Options(prompt=prompt, model=model, seed=seed, count=count, steps=steps, guidance=guidance, size=size)
        await self._bot.generator.imagine(interaction, options)

    @imagine.autocomplete("model")
    async def _models(self, _: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        found = suggest_models(typed, self._bot.catalog)
        return [app_commands.Choice(name=title, value=name) for title, name in found]
