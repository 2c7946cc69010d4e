"""A person's own pictures, page by page, visible only to them, and what can be done with each."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import ui

from bot.delivery.attachments import Attachment
from bot.delivery.delivery import NOBODY, TROUBLE, is_discords
from bot.delivery.endings import Endings
from bot.delivery.gallery import Gallery
from bot.ordering.access import Refused, Showing, order_deleted, showing_prompt
from bot.ordering.limits import Limits
from bot.ordering.orders import place_of
from bot.store import Job, Jobs, StoredPicture
from bot.ui.cards import inert, not_taken, why_withheld, worded
from bot.ui.components import custom_ids
from bot.ui.items import ID, Pressable, VerbButton, chosen
from bot.ui.modals import open_edit
from bot.ui.replies import acknowledge, think
from bot.words import N_, _

if TYPE_CHECKING:
    from bot.client import PictureBot

JOBS_ON_A_PAGE = 5
PROMPT_CHARACTERS = 120
SEARCH_CHARACTERS = 40
"""It is part, with a model's name, of a button's custom id and of a menu option's value, which have 100 characters."""
PAGE = r"(?P<page>\d{1,4}):(?P<model>[^:]*):(?P<search>.*)"
"""A page of a history in such an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a history is shown: page 1 is the newest."""

    number: int = 1
    search: str = ""
    model: str | None = None

    @classmethod
    def read(cls, match: re.Match[str]) -> Page:
        """The page that ``written`` encodes, from a match of ``PAGE``."""
        return cls(number=int(match["page"]), model=match["model"] or None, search=match["search"])

    @property
    def written(self) -> str:
        return f"{self.number}:{(self.model or '').replace(':', ' ')}:{self.search}"


class History:
    """Shows what a person has had drawn, and posts any of it again."""

    def __init__(self, *, jobs: Jobs, gallery: Gallery, endings: Endings, limits: Limits) -> None:
        self._jobs = jobs
        self._gallery = gallery
        self._endings = endings
        self._limits = limits

    async def show(self, interaction: discord.Interaction, page: Page, *, asking: str | None = None) -> None:
        """Answer with a page; pressing one of its page buttons replaces it in place. ``asking``: it asks whether that
        order is really to be deleted."""
        if interaction.type is not discord.InteractionType.component:
            await think(interaction, ephemeral=True)
        elif not interaction.response.is_done():
            await acknowledge(interaction)
        try:
            await self._answer(interaction, page, asking, pictured=True)
        except discord.HTTPException as error:
            if is_discords(error):
                raise
            await self._answer(interaction, page, asking, pictured=False)  # it refuses one picture without saying which
        await self._jobs.no_longer_missed(interaction.user.id)

    async def _answer(
        self, interaction: discord.Interaction, page: Page, asking: str | None, *, pictured: bool
    ) -> None:
        view, files = await self._page(interaction, page, asking, pictured=pictured)
        attachments = [discord.File(io.BytesIO(file.content), filename=file.name) for file in files]
        await interaction.edit_original_response(view=view, attachments=attachments, allowed_mentions=NOBODY)

    async def own(self, interaction: discord.Interaction, job_id: str) -> Job:
        """The person's own job; raises ``Refused`` if it was deleted."""
        job = await self._jobs.get(job_id)
        if job is None or job.user_id != interaction.user.id:
            raise order_deleted()
        return job

    async def post_again(self, interaction: discord.Interaction, job_id: str) -> None:
        """Post one of a person's own orders again."""
        await acknowledge(interaction)
        await self.own(interaction, job_id)
        await self.post(interaction, job_id)

    async def post(self, interaction: discord.Interaction, job_id: str) -> None:
        """Post one order's card in this channel, by its rules. The interaction is already acknowledged.

        It counts as an order to those who may not order again at once.
        """
        job = await self._jobs.get(job_id)
        if job is None:
            raise order_deleted()
        self._limits.check_pause(interaction.user.id)
        self._limits.ordered(interaction.user.id)
        here = place_of(interaction)
        parcel = await self._endings.parcel(replace(job, place=here), alone=True)
        try:
            message = await interaction.followup.send(
                view=parcel.view(), files=parcel.unpacked(), allowed_mentions=NOBODY, wait=True
            )
        except discord.HTTPException as error:
            if is_discords(error):
                raise
            raise Refused(not_taken()) from error
        if not await self._jobs.posted(job.id, replace(here, message_id=message.id)):  # deleted meanwhile
            with suppress(*TROUBLE):
                await message.delete()

    async def _page(
        self, interaction: discord.Interaction, page: Page, asking: str | None, *, pictured: bool
    ) -> tuple[ui.LayoutView, Sequence[Attachment]]:
        missed = await self._jobs.missed(interaction.user.id)
        found = await self._jobs.history(
            interaction.user.id,
            limit=JOBS_ON_A_PAGE + 1,
            offset=(page.number - 1) * JOBS_ON_A_PAGE,
            search=page.search,
            model=page.model,
        )
        jobs, more = found[:JOBS_ON_A_PAGE], len(found) > JOBS_ON_A_PAGE
        pictures = [(await self._jobs.pictures(job.id)) for job in jobs]
        here = [replace(job, place=place_of(interaction)) for job in jobs]
        shown = [self._endings.ruled(job, its) for job, its in zip(here, pictures, strict=True)]
        firsts = [its[0] for its, how in zip(pictures, shown, strict=True) if its and how is not Showing.WITHHELD]
        limit = interaction.filesize_limit // JOBS_ON_A_PAGE
        thumbnails = (self._gallery.attachment(first.id, limit=limit) for first in firsts if pictured)
        files = [file for file in await asyncio.gather(*thumbnails) if file is not None]
        names = {file.name.partition(".")[0]: file.name for file in files}
        container = ui.Container[ui.LayoutView]()
        heading = _heading(page, missed=missed, empty=not jobs)
        if not pictured:
            refused = _("Discord does not accept one of these pictures here. `/privacy export` gives you all of them.")
            heading.append(f"⚠️ {refused}")
        container.add_item(ui.TextDisplay("\n".join(heading)))
        for job, its, how in zip(jobs, pictures, shown, strict=True):
            _add_entry(container, job, its, names if pictured else None, shown=how)
            if job.id == asking:
                container.add_item(ui.ActionRow(ReallyDelete(job.id), Turn(page, label=_("Keep it"))))
            else:
                container.add_item(ui.ActionRow(Act(job.id, page)))
        numbers = [number for number, there in ((page.number - 1, page.number > 1), (page.number + 1, more)) if there]
        if numbers and asking not in [job.id for job in jobs]:
            container.add_item(ui.ActionRow(*(Turn(replace(page, number=number)) for number in numbers)))
        view = ui.LayoutView(timeout=None)
        view.add_item(container)
        return view, files


class Turn(
    Pressable,
    ui.DynamicItem[ui.Button[ui.LayoutView]],
    template=rf"history:{PAGE}",
):
    """Leads to another page, or back to the same one."""

    def __init__(self, page: Page, *, label: str | None = None) -> None:
        self.page = page
        words = label or _("Page {page}", page=page.number)
        super().__init__(ui.Button(label=words, custom_id=f"history:{page.written}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(Page.read(match))

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.history.show(interaction, self.page)


class Act(Pressable, ui.DynamicItem[ui.Select[ui.LayoutView]], template=rf"history_act:{ID}"):
    """What to do with an old order."""

    def __init__(self, job_id: str, page: Page | None = None) -> None:
        self.job_id = job_id
        options = [
            discord.SelectOption(label=label, value=value, emoji=emoji)
            for value, label, emoji in (
                ("post_again", _("Post again"), "📌"),
                ("same_seed", _("Same seed"), "🔒"),
                ("reroll", _("Reroll"), "🎲"),
                ("edit", _("Edit"), "✏️"),
                ("recipe", _("Show recipe"), "📜"),
                (f"delete:{(page or Page()).written}", _("Delete"), "🗑️"),
            )
        ]
        placeholder = _("Choose an action…")
        super().__init__(ui.Select(custom_id=f"history_act:{job_id}", placeholder=placeholder, options=options))

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        bot, [verb] = interaction.client, chosen(interaction)
        match verb:
            case "post_again":
                await bot.history.post_again(interaction, self.job_id)
            case "same_seed":
                await bot.generator.same_seed(interaction, self.job_id)
            case "reroll":
                await bot.generator.reroll(interaction, self.job_id)
            case "edit":
                await open_edit(interaction, await bot.history.own(interaction, self.job_id))
            case "recipe":
                await acknowledge(interaction)
                job = await bot.history.own(interaction, self.job_id)
                sheet = bot.recipes.sheet(job.request)
                await interaction.followup.send(view=sheet, ephemeral=True, allowed_mentions=NOBODY)
            case _:
                page = re.fullmatch(f"delete:{PAGE}", verb)
                await acknowledge(interaction)
                await bot.history.own(interaction, self.job_id)
                await bot.history.show(interaction, Page.read(page) if page else Page(), asking=self.job_id)


class ReallyDelete(VerbButton, template=rf"history_delete:{ID}"):
    """Confirms the deletion of an order. It returns to the page that the button beside it leads back to."""

    verb, emoji, words = "history_delete", "🗑️", N_("Delete for good")
    style = discord.ButtonStyle.danger

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        bot = interaction.client
        await acknowledge(interaction)
        job = await bot.history.own(interaction, self.subject)
        reposts = await bot.generator.forget(job)
        bot.background.begin(f"card of {job.id}", bot.endings.take_down, job, reposts)
        await bot.history.show(interaction, _page_of(interaction.message))


def _add_entry(
    container: ui.Container[ui.LayoutView],
    job: Job,
    pictures: Sequence[StoredPicture],
    names: dict[str, str] | None,
    *,
    shown: Showing,
) -> None:
    """One order: its prompt and recipe beside its first picture. ``names`` are those of the files, None if there are to
    be none. ``shown`` is what the rules of the place say: that the owner wanted them covered for others does not matter
    here."""
    request = job.request
    seeds = ", ".join(f"`{seed}`" for seed in dict.fromkeys(picture.seed for picture in pictures))
    prompt = worded(f"**{inert(request.prompt, PROMPT_CHARACTERS)}**", showing_prompt(shown, pictures))
    facts = f"-# {inert(request.model)} · {seeds} · {request.width}×{request.height} · <t:{job.created_at:.0f}:R>"
    text = f"{prompt}\n{facts}"
    container.add_item(ui.Separator())
    name = names.get(pictures[0].id) if names and pictures else None
    if shown is Showing.WITHHELD:
        container.add_item(ui.TextDisplay(f"{facts}\n{why_withheld()}"))
    elif names is None:
        container.add_item(ui.TextDisplay(text))
    elif name is None:
        gone = _("The picture is no longer on this machine, but its seed is.")
        container.add_item(ui.TextDisplay(f"{text}\n-# {gone}"))
    else:
        description = request.prompt[:1024]
        covered = shown is Showing.COVERED
        thumbnail = ui.Thumbnail[ui.LayoutView](f"attachment://{name}", description=description, spoiler=covered)
        container.add_item(ui.Section(text, accessory=thumbnail))


def _page_of(message: discord.Message | None) -> Page:
    """The page that a message's page buttons lead to, the first if there is none."""
    ids = () if message is None else custom_ids(message)
    found = (re.fullmatch(f"history:{PAGE}", custom_id) for custom_id in ids)
    return next((Page.read(match) for match in found if match), Page())


def _heading(page: Page, *, missed: int, empty: bool) -> list[str]:
    lines = ["**" + _("Your pictures") + "** · " + _("page {page}", page=page.number)]
    if page.search:
        lines.append("-# " + _("with “{words}”", words=inert(page.search)))
    if page.model:
        lines.append("-# " + _("by {model}", model=inert(page.model)))
    if missed:
        lines.append("📬 " + _("Finished and not shown anywhere yet: {count}. Here they are.", count=missed))
    if empty and page == Page():
        lines.append(_("Nothing yet. Try `/imagine a red apple`."))
    elif empty:
        lines.append(_("Nothing found. `/history` without options shows your newest pictures."))
    return lines
