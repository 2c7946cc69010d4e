"""What all buttons and menus have in common: they work for ever, because all they need stands in their custom ids, and
a press is always answered.

Exceptions in a dynamic item's callback reach no handler of discord.py, so it is done here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

import discord
from discord import ui

from bot.ui.replies import answer_error
from bot.words import _, speak

if TYPE_CHECKING:
    from bot.client import PictureBot

ID = r"(?P<id>[0-9a-f-]{36})"
"""Of an order or a comparison, in a custom id."""


class Pressable:
    """Mixed into a dynamic item: a press is handled in the language of whoever pressed; what goes wrong is answered."""

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Made anew for every press, from its id alone."""
        kind: Any = cls
        item_pressed: Self = kind(match["id"])
        return item_pressed

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        speak(str(interaction.locale))
        try:
            await self.press(interaction)
        except Exception as error:
            await answer_error(interaction, error)

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        """What it does; may raise."""
        raise NotImplementedError


class VerbButton(Pressable, ui.DynamicItem[ui.Button[ui.LayoutView]], template=rf"verb:{ID}"):
    """A button that carries a verb and an id, and nothing else. ``words`` stand on it, in English here."""

    verb: ClassVar[str]
    words: ClassVar[str]
    emoji: ClassVar[str | None] = None
    style: ClassVar[discord.ButtonStyle] = discord.ButtonStyle.secondary

    def __init__(self, subject: str) -> None:
        self.subject = subject
        custom_id = f"{self.verb}:{subject}"
        super().__init__(ui.Button(label=_(self.words), emoji=self.emoji, style=self.style, custom_id=custom_id))


def chosen(interaction: discord.Interaction[Any]) -> list[str]:
    """What was picked in a menu."""
    data: Any = interaction.data or {}
    return [str(value) for value in data.get("values", [])]
