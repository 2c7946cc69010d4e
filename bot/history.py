"""A person's own pictures, page by page, seen by nobody else."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import ui

from bot.access import Refused
from bot.attachments import Attachment, attachment
from bot.cards import inert
from bot.delivery import NOBODY
from bot.endings import Endings
from bot.gallery import Gallery
from bot.replies import answer_error
from bot.store import Job, Jobs, StoredPicture

if TYPE_CHECKING:
    from bot.client import PictureBot

log = logging.getLogger("bot.history")

JOBS_ON_A_PAGE = 5
PROMPT_CHARACTERS = 120


class History:
    """Shows what a person has had drawn, and any of it again."""

    def __init__(self, *, jobs: Jobs, gallery: Gallery, endings: Endings) -> None:
        self._jobs = jobs
        self._gallery = gallery
        self._endings = endings

    async def show(self, interaction: discord.Interaction, *, page: int) -> None:
        """Answer with a page, 1 being the newest; a press on one of its arrows turns it in place."""
        turning = interaction.type is discord.InteractionType.component
        await interaction.response.defer(ephemeral=True, thinking=not turning)
        view, files = await self._page(interaction, page)
        attachments = [discord.File(io.BytesIO(file.content), filename=file.name) for file in files]
        await interaction.edit_original_response(view=view, attachments=attachments, allowed_mentions=NOBODY)

    async def post_again(self, interaction: discord.Interaction, job_id: str) -> None:
        """Show one order's card once more, in the channel."""
        await interaction.response.defer()
        job = await self._jobs.get(job_id)
        if job is None or job.user_id != interaction.user.id:
            raise Refused("This order was deleted; there is nothing left to show.")
        parcel = await self._endings.parcel(job)
        await interaction.followup.send(view=parcel.view(), files=parcel.unpacked(), allowed_mentions=NOBODY)

    async def _page(self, interaction: discord.Interaction, page: int) -> tuple[ui.LayoutView, Sequence[Attachment]]:
        offset = (page - 1) * JOBS_ON_A_PAGE
        found = await self._jobs.history(interaction.user.id, limit=JOBS_ON_A_PAGE + 1, offset=offset)
        jobs, more = found[:JOBS_ON_A_PAGE], len(found) > JOBS_ON_A_PAGE
        pictures = [(await self._jobs.pictures(job.id)) for job in jobs]
        thumbnails = (self._thumbnail(first, interaction.filesize_limit) for first, *_ in filter(None, pictures))
        files = [file for file in await asyncio.gather(*thumbnails) if file is not None]
        names = {file.name.partition(".")[0]: file.name for file in files}
        view = ui.LayoutView(timeout=None)
        container = ui.Container[ui.LayoutView]()
        container.add_item(ui.TextDisplay(f"**Your pictures** · page {page}" if jobs else _nothing(page)))
        for job, its in zip(jobs, pictures, strict=True):
            _add_entry(container, job, its, names)
        arrows = [Turn(number) for number, there in ((page - 1, page > 1), (page + 1, more)) if there]
        if arrows:
            container.add_item(ui.ActionRow(*arrows))
        view.add_item(container)
        return view, files

    async def _thumbnail(self, picture: StoredPicture, limit: int) -> Attachment | None:
        """The picture's file; None if somebody took it away."""
        path = self._gallery.path(picture.id)
        try:
            return await asyncio.to_thread(attachment, path, limit=limit // JOBS_ON_A_PAGE)
        except OSError as error:
            log.warning("picture %s cannot be read: %s", picture.id, error)
            return None


class Turn(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"history:(?P<page>\d{1,4})"):
    """Leads to another page."""

    def __init__(self, page: int, *, label: str | None = None) -> None:
        self.page = page
        super().__init__(ui.Button(label=label or f"Page {page}", custom_id=f"history:{page}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(int(match["page"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        client: PictureBot = interaction.client
        try:
            await client.history.show(interaction, page=self.page)
        except Exception as error:
            await answer_error(interaction, error)


class PostAgain(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"post_again:(?P<job>[0-9a-f-]{36})"):
    """Brings an old card back."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(ui.Button(label="Post again", emoji="📌", custom_id=f"post_again:{job_id}"))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        client: PictureBot = interaction.client
        try:
            await client.history.post_again(interaction, self.job_id)
        except Exception as error:
            await answer_error(interaction, error)


def _add_entry(
    container: ui.Container[ui.LayoutView], job: Job, pictures: Sequence[StoredPicture], names: dict[str, str]
) -> None:
    """One order: its prompt and recipe beside its first picture, and a way to have it shown again."""
    request = job.request
    seeds = ", ".join(f"`{picture.seed}`" for picture in pictures)
    text = (
        f"**{inert(request.prompt, PROMPT_CHARACTERS)}**\n"
        f"-# {inert(request.model)} · {seeds} · {request.width}×{request.height} · <t:{job.created_at:.0f}:R>"
    )
    container.add_item(ui.Separator())
    name = names.get(pictures[0].id) if pictures else None
    if name is None:
        container.add_item(ui.TextDisplay(f"{text}\n-# The picture is no longer on this machine; its seed is."))
    else:
        thumbnail = ui.Thumbnail[ui.LayoutView](f"attachment://{name}", description=request.prompt[:1024])
        container.add_item(ui.Section(text, accessory=thumbnail))
    container.add_item(ui.ActionRow(PostAgain(job.id)))


def _nothing(page: int) -> str:
    return "Nothing yet. Try `/imagine a red apple`." if page == 1 else f"There is no page {page}."
