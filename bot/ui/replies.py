"""How the bot answers when something cannot be done: one sentence that only the person who asked can see, followed by
the prompt that they typed, because Discord keeps none of it."""

from __future__ import annotations

import logging
from typing import Any

import discord

from bot.ordering.access import Refused
from bot.ui.quoting import quoted
from bot.words import _, told
from inference.errors import InferenceError, shortened, unexpected

log = logging.getLogger("bot.ui.replies")

UNKNOWN_INTERACTION = 10062
MOST_CHARACTERS = 2000
"""Maximum length of a message, by Discord's rules."""
TYPED_CHARACTERS = 1500
"""Maximum length of a prompt that is given back; the rest is left for the sentence."""
VALUE_CHARACTERS = 50
"""Maximum length of a typed value when it is quoted back."""


def is_refusal(error: BaseException) -> bool:
    """Whether the error answers what a person asked for, rather than being a fault of the bot."""
    return isinstance(_cause(error), InferenceError | Refused | discord.app_commands.TransformerError)


async def acknowledge(interaction: discord.Interaction) -> None:
    """Acknowledge a press without showing anything. For a menu this is an empty edit, which shows it anew: as long as
    an option looks chosen, Discord sends nothing when it is chosen again."""
    if _is_of_a_menu(interaction):
        await interaction.response.edit_message()
    else:
        await interaction.response.defer()


async def answer_error(interaction: discord.Interaction, error: BaseException, *, typed: str | None = None) -> None:
    """Tell the person what went wrong; log what is not theirs to fix. Never raises a Discord error itself.

    ``typed`` (by default a command's prompt) is given back to be copied.
    """
    cause = _cause(error)
    if isinstance(cause, discord.HTTPException) and cause.code == UNKNOWN_INTERACTION:
        log.warning("an interaction expired before it was answered")
        return
    try:
        await _answer(interaction, _with(_sentence(cause), typed or getattr(interaction.namespace, "prompt", None)))
    except discord.HTTPException as failed:
        log.warning("an answer could not be sent: %s", failed)


def _cause(error: BaseException) -> BaseException:
    """The exception that a command raised, unwrapped from discord.py's."""
    return getattr(error, "original", None) or error


async def _answer(interaction: discord.Interaction, sentence: str) -> None:
    """An ephemeral message, unless “thinking…” is already shown: the answer replaces that, as visible as it was."""
    none = discord.AllowedMentions.none()
    if _is_of_a_menu(interaction) and not interaction.response.is_done():
        await acknowledge(interaction)
    if not interaction.response.is_done():
        await interaction.response.send_message(sentence, ephemeral=True, allowed_mentions=none)
    elif interaction.response.type is discord.InteractionResponseType.deferred_channel_message:
        await interaction.edit_original_response(content=sentence, allowed_mentions=none)
    else:
        await interaction.followup.send(sentence, ephemeral=True, allowed_mentions=none)


def _is_of_a_menu(interaction: discord.Interaction) -> bool:
    data: Any = interaction.data or {}
    return "values" in data


def _with(sentence: str, typed: str | None) -> str:
    block = "\n" + quoted(typed, TYPED_CHARACTERS) if typed and typed.strip() else ""
    return shortened(sentence, MOST_CHARACTERS - len(block)) + block


def _sentence(cause: BaseException) -> str:
    match cause:
        case InferenceError(failure=failure):
            return told(failure)
        case Refused():
            return str(cause)
        case discord.app_commands.TransformerError(value=value):
            return _("“{value}” cannot be used here.", value=shortened(str(value), VALUE_CHARACTERS))
        case _:
            return told(unexpected(cause, log))
