"""What all buttons and menus have in common: they never expire, because all they need is in their custom ids, and a
press is always answered.

Exceptions in a dynamic item's callback reach no error handler of discord.py, so they are handled here.
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
"""The id of an order or a comparison in a custom id."""


class Pressable:
    """Mixin for dynamic items: a press is handled in the language of the person who pressed; errors are answered."""

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Built anew for every press, from its custom id alone."""
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
        """What a press does; may raise."""
        raise NotImplementedError


class VerbButton(Pressable, ui.DynamicItem[ui.Button[ui.LayoutView]], template=rf"verb:{ID}"):
    """A button that carries a verb and an id, and nothing else. ``words`` is its label, in English here."""

    verb: ClassVar[str]
    words: ClassVar[str]
    emoji: ClassVar[str | None] = None
    style: ClassVar[discord.ButtonStyle] = discord.ButtonStyle.secondary

    def __init__(self, subject: str) -> None:
        self.subject = subject
        custom_id = f"{self.verb}:{subject}"
        super().__init__(ui.Button(label=_(self.words), emoji=self.emoji, style=self.style, custom_id=custom_id))


def chosen(interaction: discord.Interaction[Any]) -> list[str]:
    """What was chosen in a menu."""
    data: Any = interaction.data or {}
    return [str(value) for value in data.get("values", [])]
