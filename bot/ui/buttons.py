"""The buttons and menus of a card. Each carries a verb and a job id and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import discord
from discord import ui

from bot.ordering.requests import alone
from bot.store import StoredPicture
from bot.ui.deleting import press_delete
from bot.ui.items import ID, Pressable, VerbButton, chosen
from bot.ui.modals import open_edit
from bot.ui.replies import acknowledge
from bot.words import N_, _
from inference.catalog.entries import ModelEntry

if TYPE_CHECKING:
    from bot.client import PictureBot

MOST_OPTIONS = 25
"""Maximum options of a menu, by Discord's rules."""
A_LITTLE, A_LOT = 0.2, 0.5
"""Strengths of variations: the composition stays and details change, or the subject stays and the composition changes.
The cosine similarity of their noise with the picture's own is still 0.95 and 0.71."""


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
        await open_edit(interaction, await interaction.client.generator.job(self.subject))


class Delete(VerbButton, template=rf"delete:{ID}"):
    verb, emoji, words = "delete", "🗑️", N_("Delete")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await acknowledge(interaction)
        job = await interaction.client.store.jobs.get(self.subject)
        await press_delete(interaction, [] if job is None else [job])


class Cancel(VerbButton, template=rf"cancel:{ID}"):
    verb, emoji, words = "cancel", "✖️", N_("Cancel")

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.generator.cancel(interaction, self.subject)


class OtherModel(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"other_model:{ID}"):
    """The same prompt and seed with another model."""

    def __init__(self, job_id: str, models: Iterable[ModelEntry] = ()) -> None:
        self.job_id = job_id
        options = [
            discord.SelectOption(label=entry.title[:100], value=entry.name, description=entry.description[:100] or None)
            for entry in models
        ]
        super().__init__(
            ui.Select(
                custom_id=f"other_model:{job_id}",
                placeholder=_("Same seed, different model…"),
                options=options[:MOST_OPTIONS],
            )
        )

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        [model] = chosen(interaction)
        await interaction.client.generator.other_model(interaction, self.job_id, model=model)


class OneOf(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"one_of:{ID}"):
    """Continues with one of the pictures: alone, edited, or varied. A card with a single picture has buttons for the
    first two."""

    def __init__(self, job_id: str, pictures: Sequence[StoredPicture] = ()) -> None:
        self.job_id = job_id
        several = len(pictures) > 1
        options = [
            discord.SelectOption(
                label=label, value=f"{verb}:{picture.index}", description=_seeds_of(picture), emoji=emoji
            )
            for picture in pictures
            for verb, emoji, label in _ways_on(picture.index + 1, several=several)
        ]
        placeholder = _("Continue with one of them…") if several else _("Continue with it…")
        super().__init__(ui.Select(custom_id=f"one_of:{job_id}", placeholder=placeholder, options=options))

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        generator, [value] = interaction.client.generator, chosen(interaction)
        verb, _colon, index = value.partition(":")
        match verb:
            case "same_seed":
                await generator.same_seed(interaction, self.job_id, only=int(index))
            case "edit":
                job = await generator.job(self.job_id)
                await open_edit(interaction, replace(job, request=alone(job.request, int(index))))
            case _:
                strength = A_LITTLE if verb == "vary_a_little" else A_LOT
                await generator.vary(interaction, self.job_id, index=int(index), strength=strength)


def _ways_on(number: int, *, several: bool) -> list[tuple[str, str, str]]:
    """What can be done with the picture of this number (from 1): verb, emoji and label of each choice."""
    varying = [
        ("vary_a_little", "🪄", _("Vary picture {number} a little", number=number)),
        ("vary_a_lot", "🌀", _("Vary picture {number} a lot", number=number)),
    ]
    if not several:
        return varying
    return [
        ("same_seed", "🔒", _("Picture {number} by itself", number=number)),
        ("edit", "✏️", _("Edit picture {number}", number=number)),
        *varying,
    ]


def _seeds_of(picture: StoredPicture) -> str:
    if picture.variation_seed is None:
        return _("seed {seed}", seed=picture.seed)
    return _("seed {seed}, variation {variation}", seed=picture.seed, variation=picture.variation_seed)


ALL = (Reroll, SameSeed, Edit, Delete, Cancel, OneOf, OtherModel)
