"""Reads a message's components: whose card it is, what it shows and what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import discord

from bot.ui.items import ID

Message: TypeAlias = discord.Message | discord.MessageSnapshot

ON_A_CARD = re.compile(
    r"(?:reroll|same_seed|edit|delete|cancel|one_of|other_model"
    rf"|compare_again|cancel_comparison|delete_comparison|go_on):{ID}"
)


def card_of(message: Message) -> str | None:
    """The id of the order or comparison whose card a message is, by its buttons; None unless they all belong to one."""
    matches = (ON_A_CARD.fullmatch(custom_id) for custom_id in custom_ids(message))
    found = {match["id"] for match in matches if match}
    return found.pop() if len(found) == 1 else None


def custom_ids(message: Message) -> Iterator[str]:
    """The custom ids of everything on a message that can be pressed."""
    return (part["custom_id"] for part in _parts(message) if "custom_id" in part)


def media_of(message: Message) -> Iterator[str]:
    """The URLs of the media in a message's components, which Discord does not count among its attachments."""
    for part in _parts(message):
        yield from (shown["media"]["url"] for shown in [part, *part.get("items", [])] if "media" in shown)


def mentions(message: Message, user_id: int) -> bool:
    """Whether the message's text mentions this person."""
    return any(f"<@{user_id}>" in part.get("content", "") for part in _parts(message))


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    return _with_inner([part.to_dict() for part in message.components])


def _with_inner(parts: list[Any]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield part
        accessory = part.get("accessory")
        yield from _with_inner([*part.get("components", []), *([accessory] if accessory else [])])
