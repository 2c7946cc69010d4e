"""The buttons of a card. Each carries a verb and a job id and nothing else, so it works after a restart, for ever.

Exceptions in a dynamic item's callback reach no handler of discord.py, so the base button answers them itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

import discord
from discord import ui

from bot.replies import answer_error

if TYPE_CHECKING:
    from bot.client import PictureBot

JOB = r"(?P<job>[0-9a-f-]{36})"


OPEN_FOR_S = 60 * 60.0
"""How long a modal that was opened may take to come back; it is remembered no longer."""


class JobButton(ui.DynamicItem[ui.Button[ui.LayoutView]], template=rf"job:{JOB}"):
    """A button about one job."""

    verb: ClassVar[str]
    label: ClassVar[str]
    emoji: ClassVar[str]
    style: ClassVar[discord.ButtonStyle] = discord.ButtonStyle.secondary

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        custom_id = f"{self.verb}:{job_id}"
        super().__init__(ui.Button(label=self.label, emoji=self.emoji, style=self.style, custom_id=custom_id))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        try:
            await self.press(interaction)
        except Exception as error:
            await answer_error(interaction, error)

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """What the button does; may raise."""
        raise NotImplementedError


class Reroll(JobButton, template=rf"reroll:{JOB}"):
    verb, label, emoji = "reroll", "Reroll", "🎲"
    style = discord.ButtonStyle.primary

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.reroll(interaction, self.job_id)


class SameSeed(JobButton, template=rf"same_seed:{JOB}"):
    verb, label, emoji = "same_seed", "Same seed", "🔒"

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.same_seed(interaction, self.job_id)


class Edit(JobButton, template=rf"edit:{JOB}"):
    verb, label, emoji = "edit", "Edit", "✏️"

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        job = await interaction.client.generator.job(self.job_id)
        await interaction.response.send_modal(EditPrompt(job_id=job.id, prompt=job.request.prompt))


class Delete(JobButton, template=rf"delete:{JOB}"):
    verb, label, emoji = "delete", "Delete", "🗑️"

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.delete(interaction, self.job_id)


class Cancel(JobButton, template=rf"cancel:{JOB}"):
    verb, label, emoji = "cancel", "Cancel", "✖️"

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.cancel(interaction, self.job_id)


ALL = (Reroll, SameSeed, Edit, Delete, Cancel)


class EditPrompt(ui.Modal, title="Edit the prompt"):
    """Asks for another prompt; everything else stays, the seed too."""

    def __init__(self, *, job_id: str, prompt: str) -> None:
        super().__init__(timeout=OPEN_FOR_S)
        self._job_id = job_id
        self._prompt: ui.TextInput[EditPrompt] = ui.TextInput(
            style=discord.TextStyle.paragraph, default=prompt, max_length=1000
        )
        self.add_item(ui.Label(text="Prompt", description="The seed stays the same.", component=self._prompt))

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        await interaction.client.generator.edit(interaction, self._job_id, prompt=self._prompt.value)

    async def on_error(  # type: ignore[override]  # as discord.py documents it for modals
        self, interaction: discord.Interaction[Any], error: Exception, /
    ) -> None:
        await answer_error(interaction, error)
