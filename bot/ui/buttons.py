"""The buttons and the menu of a card. Each carries a verb and a job id and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import discord
from discord import ui

from bot.ordering.requests import alone, options_again
from bot.store import StoredPicture
from bot.ui.deleting import press_delete
from bot.ui.items import ID, Pressable, VerbButton, chosen
from bot.ui.modals import remix_modal
from bot.words import N_, _
from inference.catalog.entries import ModelEntry

if TYPE_CHECKING:
    from bot.client import PictureBot

MOST_OPTIONS = 25
"""Of a menu, by Discord's rules."""


class Reroll(VerbButton, template=rf"reroll:{ID}"):
    verb, emoji, words = "reroll", "🎲", N_("Reroll")
    style = discord.ButtonStyle.primary

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.reroll(interaction, self.subject)


class SameSeed(VerbButton, template=rf"same_seed:{ID}"):
    verb, emoji, words = "same_seed", "🔒", N_("Same seed")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.same_seed(interaction, self.subject)


class Edit(VerbButton, template=rf"edit:{ID}"):
    verb, emoji, words = "edit", "✏️", N_("Edit")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        job = await interaction.client.generator.job(self.subject)
        await interaction.response.send_modal(remix_modal(options_again(job), parent_id=job.id))


class Delete(VerbButton, template=rf"delete:{ID}"):
    verb, emoji, words = "delete", "🗑️", N_("Delete")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.response.defer()
        job = await interaction.client.store.jobs.get(self.subject)
        await press_delete(interaction, [] if job is None else [job])


class Cancel(VerbButton, template=rf"cancel:{ID}"):
    verb, emoji, words = "cancel", "✖️", N_("Cancel")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.cancel(interaction, self.subject)


class OtherModel(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"other_model:{ID}"):
    """The same prompt and seed by another model."""

    def __init__(self, job_id: str, models: Iterable[ModelEntry] = ()) -> None:
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

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        [model] = chosen(interaction)
        await interaction.client.generator.other_model(interaction, self.job_id, model=model)


class OneOf(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"one_of:{ID}"):
    """Goes on with one of several pictures: the same by itself, or changed."""

    def __init__(self, job_id: str, pictures: Sequence[StoredPicture] = ()) -> None:
        self.job_id = job_id
        options = [
            discord.SelectOption(
                label=label,
                value=f"{verb}:{picture.index}",
                description=_("seed {seed}", seed=picture.seed),
                emoji=emoji,
            )
            for picture in pictures
            for verb, emoji, label in (
                ("same_seed", "🔒", _("Picture {number} by itself", number=picture.index + 1)),
                ("edit", "✏️", _("Edit picture {number}", number=picture.index + 1)),
            )
        ]
        placeholder = _("Go on with one of them…")
        super().__init__(ui.Select(custom_id=f"one_of:{job_id}", placeholder=placeholder, options=options))

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        generator, [value] = interaction.client.generator, chosen(interaction)
        verb, _colon, index = value.partition(":")
        if verb == "same_seed":
            await generator.same_seed(interaction, self.job_id, only=int(index))
        else:
            job = await generator.job(self.job_id)
            one = replace(job, request=alone(job.request, int(index)))
            await interaction.response.send_modal(remix_modal(options_again(one), parent_id=job.id))


ALL = (Reroll, SameSeed, Edit, Delete, Cancel, OneOf, OtherModel)
