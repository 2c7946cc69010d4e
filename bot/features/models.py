"""What ``/model list`` and ``/model info`` show."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import ui

from bot.background import Background
from bot.delivery.delivery import NOBODY, TROUBLE
from bot.features.choosing import Use
from bot.features.examples import Example, Examples
from bot.ordering.access import Showing, showing_in
from bot.ordering.orders import is_age_restricted, where
from bot.ordering.preferences import choose, visible
from bot.store import Preferences
from bot.ui.cards import inert, why_withheld
from bot.ui.items import Pressable
from bot.ui.replies import acknowledge, think
from bot.ui.suggestions import triggers_of
from bot.words import N_, _, speaking, steps_of, told
from inference.catalog import Catalog
from inference.catalog.entries import AdapterEntry, Kind, ModelEntry
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.ticket import Ticket

if TYPE_CHECKING:
    from bot.client import PictureBot

log = logging.getLogger("bot.features.models")

ON_A_PAGE = 4
MOST_LORAS, LORA_CHARACTERS = 8, 50
"""Maximum LoRAs on a model's card, and length of a LoRA's title and trigger words there; a card has 4000 characters."""


class Models:
    """Shows the models, with what is known about them and their examples."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        preferences: Preferences,
        dispatcher: Dispatcher,
        examples: Examples,
        background: Background,
    ) -> None:
        self._catalog = catalog
        self._preferences = preferences
        self._dispatcher = dispatcher
        self.examples = examples
        self._background = background

    async def show_list(self, interaction: discord.Interaction, *, page: int) -> None:
        """Answer with a page of models; pressing one of its page buttons replaces it in place."""
        turning = interaction.type is discord.InteractionType.component
        await (acknowledge(interaction) if turning else think(interaction, ephemeral=True))
        shown = visible(self._preferences.rules(interaction.guild_id), self._catalog)
        pages = max(1, -(-len(shown) // ON_A_PAGE))
        page = min(page, pages)
        here = shown[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
        deciding = choose(None, where(interaction), self._preferences, self._catalog).entry
        view, files = ui.LayoutView(timeout=None), list[discord.File]()
        container = ui.Container[ui.LayoutView]()
        container.add_item(ui.TextDisplay("**" + _("Models") + f"** · {page}/{pages}"))
        for entry in here:
            mark = "✅ " if entry is deciding else ""
            container.add_item(ui.Separator())
            files += await self._add_entry(interaction, container, entry, mark)
        arrows = [Page(number) for number in (page - 1, page + 1) if 1 <= number <= pages]
        if arrows:
            container.add_item(ui.ActionRow(*arrows))
        view.add_item(container)
        await self.examples.order_small(here)
        await interaction.edit_original_response(view=view, attachments=files, allowed_mentions=NOBODY)

    async def info(self, interaction: discord.Interaction, *, name: str) -> None:
        """Answer with all that is known about a model; its example follows if it has to be drawn first."""
        entry = choose(name, where(interaction), self._preferences, self._catalog).entry
        await think(interaction, ephemeral=True)
        example = await self.examples.find(entry)
        ticket = None if example else await self.examples.order(entry)
        await self._show_info(interaction, entry, example, drawing=ticket is not None)
        if ticket is not None:
            self._background.begin(f"example of {entry.name}", self._add_example, interaction, entry, ticket)

    async def _add_entry(
        self, interaction: discord.Interaction, container: ui.Container[ui.LayoutView], entry: ModelEntry, mark: str
    ) -> Sequence[discord.File]:
        text = f"{mark}**{inert(entry.title)}** (`{entry.name}`)\n{inert(entry.description)}\n-# " + " · ".join(
            await self._facts(entry)
        )
        example = await self.examples.find(entry)
        shown = self._shown(interaction, entry, example)
        if example is None or shown is Showing.WITHHELD:
            container.add_item(ui.TextDisplay(text))
            return []
        file = await asyncio.to_thread(_file, example.path)
        thumbnail = ui.Thumbnail[ui.LayoutView](
            f"attachment://{file.filename}", description=entry.examples[0][:1024], spoiler=shown is Showing.COVERED
        )
        container.add_item(ui.Section(text, accessory=thumbnail))
        return [file]

    async def _show_info(
        self, interaction: discord.Interaction, entry: ModelEntry, example: Example | None, *, drawing: bool
    ) -> None:
        container = ui.Container[ui.LayoutView]()
        container.add_item(ui.TextDisplay(f"**{inert(entry.title)}** (`{entry.name}`)\n{inert(entry.description)}"))
        files = []
        shown = self._shown(interaction, entry, example)
        if shown is Showing.WITHHELD:
            container.add_item(ui.TextDisplay(why_withheld()))
        elif example is not None:
            files = [await asyncio.to_thread(_file, example.path)]
            gallery = ui.MediaGallery[ui.LayoutView]()
            gallery.add_item(
                media=f"attachment://{files[0].filename}",
                description=entry.examples[0][:1024],
                spoiler=shown is Showing.COVERED,
            )
            container.add_item(gallery)
        elif drawing:
            container.add_item(ui.TextDisplay("🎨 " + _("An example is being drawn…")))
        lines = [f"- {fact}" for fact in [*await self._facts(entry), *_details(entry)]]
        if entry.name in self._dispatcher.ailing:
            lines.append(inert(told(self._dispatcher.ailing[entry.name])))
        lines += _loras(self._catalog.adapters(entry.family))
        container.add_item(ui.TextDisplay("\n".join(lines)))
        container.add_item(ui.ActionRow(Use(entry.name)))
        view = ui.LayoutView(timeout=None)
        view.add_item(container)
        await interaction.edit_original_response(view=view, attachments=files, allowed_mentions=NOBODY)

    async def _add_example(self, interaction: discord.Interaction, entry: ModelEntry, ticket: Ticket) -> None:
        await self.examples.ending(entry, ticket)
        with speaking(str(interaction.locale)):
            try:
                await self._show_info(interaction, entry, await self.examples.find(entry), drawing=False)
            except TROUBLE as error:  # the person is gone, or the answer can no longer be edited
                log.info("the example of %s is not shown: %s", entry.name, error)

    def _shown(self, interaction: discord.Interaction, entry: ModelEntry, example: Example | None) -> Showing:
        """How an example is shown here: as if it had been ordered here."""
        rules, found = self._preferences.rules(interaction.guild_id), [] if example is None else [example]
        return showing_in(found, rules, entry, age_restricted=is_age_restricted(interaction))

    async def _facts(self, entry: ModelEntry) -> list[str]:
        """Family, size, settings, licence, and where the weights are."""
        if entry.name in self._dispatcher.ailing:
            near = "⚠️ " + _("cannot be loaded")
        elif entry.name in self._dispatcher.resident:
            near = "⚡ " + _("in memory")
        elif await asyncio.to_thread(self._catalog.on_disk, entry):
            near = "💾 " + _("on disk")
        elif self._dispatcher.downloads and await asyncio.to_thread(self._catalog.is_downloadable, entry):
            near = "☁️ " + _("not downloaded yet")
        else:
            near = "✖️ " + _("not on this machine")
        return [
            near,
            _(_KINDS[entry.kind], family=entry.family),
            f"{entry.width}×{entry.height}",
            steps_of(round(entry.steps.default)),
            _("guidance {guidance}", guidance=f"{entry.guidance.default:g}"),
            inert(entry.licence),
        ]


class Page(Pressable, ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"models:(?P<page>\d{1,3})"):
    """Leads to another page of models."""

    def __init__(self, page: int) -> None:
        self.page = page
        super().__init__(ui.Button(label=_("Page {page}", page=page), custom_id=f"models:{page}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(int(match["page"]))

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.models.show_list(interaction, page=self.page)


_KINDS = {
    Kind.NATIVE: N_("{family}, native LCM"),
    Kind.LORA: N_("{family} with LCM-LoRA"),
    Kind.MERGED: N_("{family}, already distilled"),
}


def _details(entry: ModelEntry) -> list[str]:
    steps, guidance = entry.steps, entry.guidance
    negative = _("not used") if entry.kind is Kind.NATIVE else _("used with guidance above 1")
    return [
        _("steps {low} to {high}", low=f"{steps.low:g}", high=f"{steps.high:g}"),
        _("guidance {low} to {high}", low=f"{guidance.low:g}", high=f"{guidance.high:g}"),
        _("sides {low} to {high} pixels", low=entry.smallest_side, high=entry.largest_side),
        _("negative prompts: {use}", use=negative),
        *([_("try: {prompts}", prompts=" · ".join(map(inert, entry.examples)))] if entry.examples else []),
    ]


def _loras(fitting: Sequence[AdapterEntry]) -> list[str]:
    """The LoRAs that fit a model, with their trigger words."""
    lines = [
        " · ".join([f"-# LoRA {inert(entry.title, LORA_CHARACTERS)} (`{entry.name}`)", *_triggers(entry)])
        for entry in fitting[:MOST_LORAS]
    ]
    if len(fitting) > MOST_LORAS:
        lines.append("-# " + _("and {count} more", count=len(fitting) - MOST_LORAS))
    return lines


def _triggers(entry: AdapterEntry) -> list[str]:
    return [inert(words, LORA_CHARACTERS) for words in triggers_of(entry)]


def _file(path: Path) -> discord.File:
    return discord.File(io.BytesIO(path.read_bytes()), filename=path.name)
