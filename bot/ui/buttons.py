"""The buttons and the menu of a card. Each carries a verb and a job id and nothing else, so it works for ever.

Exceptions in a dynamic item's callback reach no handler of discord.py, so the base class answers them itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import discord
from discord import ui

from bot.ordering.requests import options_of
from bot.ui.modals import remix_modal
from bot.ui.replies import answer_error
from bot.words import _, speak
from inference.catalog.entries import ModelEntry

if TYPE_CHECKING:
    from bot.client import PictureBot

JOB = r"(?P<job>[0-9a-f-]{36})"
MOST_OPTIONS = 25
"""Of a menu, by Discord's rules."""


async def guarded(item: Any, interaction: discord.Interaction[Any]) -> None:
    """Press a dynamic item in the language of whoever pressed it; whatever goes wrong is answered."""
    speak(str(interaction.locale))
    try:
        await item.press(interaction)
    except Exception as error:
        await answer_error(interaction, error)


class JobButton(ui.DynamicItem[ui.Button[ui.LayoutView]], template=rf"job:{JOB}"):
    """A button about one job."""

    verb: ClassVar[str]
    emoji: ClassVar[str]
    style: ClassVar[discord.ButtonStyle] = discord.ButtonStyle.secondary

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        custom_id = f"{self.verb}:{job_id}"
        super().__init__(ui.Button(label=self.label(), emoji=self.emoji, style=self.style, custom_id=custom_id))

    @classmethod
    def label(cls) -> str:
        """What stands on the button."""
        raise NotImplementedError

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        await guarded(self, interaction)

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """What the button does; may raise."""
        raise NotImplementedError


class Reroll(JobButton, template=rf"reroll:{JOB}"):
    verb, emoji = "reroll", "🎲"
    style = discord.ButtonStyle.primary

    @classmethod
    def label(cls) -> str:
        return _("Reroll")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.reroll(interaction, self.job_id)


class SameSeed(JobButton, template=rf"same_seed:{JOB}"):
    verb, emoji = "same_seed", "🔒"

    @classmethod
    def label(cls) -> str:
        return _("Same seed")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.same_seed(interaction, self.job_id)


class Edit(JobButton, template=rf"edit:{JOB}"):
    verb, emoji = "edit", "✏️"

    @classmethod
    def label(cls) -> str:
        return _("Edit")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        job = await interaction.client.generator.job(self.job_id)
        await interaction.response.send_modal(remix_modal(options_of(job.request), parent_id=job.id))


class Delete(JobButton, template=rf"delete:{JOB}"):
    verb, emoji = "delete", "🗑️"

    @classmethod
    def label(cls) -> str:
        return _("Delete")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.response.defer()
        await interaction.client.generator.delete(interaction, self.job_id)
        await interaction.delete_original_response()


class Cancel(JobButton, template=rf"cancel:{JOB}"):
    verb, emoji = "cancel", "✖️"

    @classmethod
    def label(cls) -> str:
        return _("Cancel")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.cancel(interaction, self.job_id)


class OtherModel(ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"other_model:{JOB}"):
    """The same prompt and seed by another model."""

    def __init__(self, job_id: str, models: Iterable[ModelEntry]) -> None:
        self.job_id = job_id
        options = [
            discord.SelectOption(label=entry.title[:100], value=entry.name, description=entry.description[:100] or None)
            for entry in models
        ]
        super().__init__(
            ui.Select(
                custom_id=f"other_model:{job_id}",
                placeholder=_("Same seed, other model…"),
                options=options[:MOST_OPTIONS],
            )
        )

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job"], ())

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        await guarded(self, interaction)

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        [model] = chosen(interaction)
        await interaction.client.generator.other_model(interaction, self.job_id, model=model)


def chosen(interaction: discord.Interaction[Any]) -> list[str]:
    """What was picked in a menu."""
    data: Any = interaction.data or {}
    return [str(value) for value in data.get("values", [])]


ALL = (Reroll, SameSeed, Edit, Delete, Cancel, OtherModel)
