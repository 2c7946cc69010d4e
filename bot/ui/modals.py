"""The form that edits an order into a new one. The submission carries everything itself, so a restart does no harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import discord
from discord import ui

from bot.ordering import flags
from bot.ordering.access import Refused
from bot.ordering.flags import Options
from bot.ordering.requests import options_again
from bot.store import Job
from bot.ui.replies import answer_error
from bot.words import _, speak
from inference.contract import MAX_PROMPT_CHARACTERS

if TYPE_CHECKING:
    from bot.client import PictureBot

REMIX = re.compile(r"remix(?::(?P<job>[0-9a-f-]{36}))?")


FORGOTTEN_S = 900.0
"""Timeout after which discord.py drops a form, which may have been closed; a later submission still comes here."""


def remix_modal(options: Options, *, parent_id: str | None) -> ui.Modal:
    """A form filled in with ``options``; its submission comes to ``submitted``, in whichever process runs by then."""
    custom_id = f"remix:{parent_id}" if parent_id else "remix"
    modal = ui.Modal(title=_("Edit this order"), custom_id=custom_id, timeout=FORGOTTEN_S)
    for field_id, label, about, text, required in (
        ("prompt", _("Prompt"), None, options.prompt, True),
        ("negative", _("Negative prompt"), _("What should not be in the picture"), options.negative, False),
        ("flags", _("Settings"), _("The seed stays the same unless you change it"), flags.written(options), False),
    ):
        most = max(MAX_PROMPT_CHARACTERS, len(text or ""))  # a backslash before a bracket does not count
        style = discord.TextStyle.short if field_id == "flags" else discord.TextStyle.paragraph
        field: ui.TextInput[Any] = ui.TextInput(
            style=style, default=text or None, custom_id=field_id, required=required, max_length=most
        )
        modal.add_item(ui.Label(text=label, description=about, component=field))
    return modal


async def open_edit(interaction: discord.Interaction[PictureBot], job: Job) -> None:
    """Answer with the form for ``job``; raises ``Refused`` for people to whom its prompt is not shown."""
    await interaction.client.endings.require_readable(interaction, [job])
    await interaction.response.send_modal(remix_modal(options_again(job), parent_id=job.id))


async def submitted(interaction: discord.Interaction[PictureBot]) -> None:
    """Order what a submitted ``remix_modal`` says; other forms are ignored."""
    data: Any = interaction.data or {}
    match = REMIX.fullmatch(str(data.get("custom_id", "")))
    if match is None:
        return
    speak(str(interaction.locale))
    said = dict(_fields(data.get("components", [])))
    try:
        await interaction.client.generator.remix(interaction, _read(said), parent_id=match["job"])
    except Exception as error:
        await answer_error(interaction, error, typed=_in_one_line(said))


def _in_one_line(said: dict[str, str]) -> str:
    """The contents of a form as they could be typed after ``/imagine``."""
    negative = said.get("negative", "").strip()
    return " ".join([said.get("prompt", ""), f"--no {negative}" if negative else "", said.get("flags", "")])


def _read(said: dict[str, str]) -> Options:
    """The contents of a form. The settings come filled in, so flags typed into the prompt win over them."""
    settings = said.get("flags", "").strip()
    if settings and not flags.FLAG.match(settings):
        raise Refused(_("Settings look like `--seed 5 --steps 4`; “{text}” does not.", text=settings[:100]))
    typed = flags.merged(Options(prompt=said.get("prompt", ""), negative=said.get("negative") or None))
    return replace(typed, prompt=f"{typed.prompt} {settings}")


def _fields(components: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for component in components:
        if "value" in component and "custom_id" in component:
            yield component["custom_id"], component["value"] or ""
        inner = component.get("component")
        yield from _fields([*component.get("components", []), *([inner] if inner else [])])
