"""How the bot answers when something cannot be done: one sentence that only the person who asked can see, followed by
the prompt that they typed, because Discord keeps none of it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import aiohttp
import discord

from bot.ordering.access import Refused
from bot.ui.quoting import quoted
from bot.words import _, told
from inference.errors import InferenceError, shortened, unexpected

log = logging.getLogger("bot.ui.replies")

UNKNOWN_MESSAGE = 10008
UNKNOWN_INTERACTION = 10062
ACKNOWLEDGED = 40060
"""Discord has an answer already. After an error of its own it may, and discord.py then sends the same answer again."""
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
    try:
        if _may_be_of_a_menu(interaction):
            await interaction.response.edit_message()
        else:
            await interaction.response.defer()
    except discord.HTTPException as error:
        if error.code == UNKNOWN_MESSAGE:  # it was deleted while its form was open
            await interaction.response.defer()
        elif error.code != ACKNOWLEDGED:
            raise


async def think(interaction: discord.Interaction, *, ephemeral: bool = False) -> int:
    """Answer “thinking…”; returns that message's id. Whatever Discord says, what counts is whether it is there."""
    try:
        response = await interaction.response.defer(ephemeral=ephemeral, thinking=True)
    except (discord.HTTPException, aiohttp.ClientError):
        with suppress(discord.HTTPException, aiohttp.ClientError):
            return (await interaction.original_response()).id
        raise
    if response is not None and response.message_id is not None:
        return response.message_id
    return (await interaction.original_response()).id


async def answer_error(interaction: discord.Interaction, error: BaseException, *, typed: str | None = None) -> None:
    """Tell the person what went wrong; log what is not theirs to fix. Never raises a Discord error itself.

    ``typed`` (by default a command's prompt) is given back to be copied.
    """
    cause = _cause(error)
    if isinstance(cause, discord.HTTPException) and cause.code in (UNKNOWN_INTERACTION, ACKNOWLEDGED):
        log.warning("an interaction expired before it was answered, or its answer was taken with an error: %s", cause)
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
    if _may_be_of_a_menu(interaction) and not interaction.response.is_done():
        await acknowledge(interaction)
    if not interaction.response.is_done():
        try:
            await interaction.response.send_message(sentence, ephemeral=True, allowed_mentions=none)
        except discord.HTTPException as error:
            if error.code != ACKNOWLEDGED:
                raise
        else:
            return
    if interaction.response.type is discord.InteractionResponseType.deferred_channel_message:
        await interaction.edit_original_response(content=sentence, allowed_mentions=none)
    else:
        await interaction.followup.send(sentence, ephemeral=True, allowed_mentions=none)


def _may_be_of_a_menu(interaction: discord.Interaction) -> bool:
    """Whether a menu was used, or a form sent that one may have opened: it does not say what did."""
    data: Any = interaction.data or {}
    is_form = interaction.type is discord.InteractionType.modal_submit
    return "values" in data or (is_form and interaction.message is not None)


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
