"""Autocomplete for options: models, shapes and LoRAs, as far as they can be used here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import discord
from discord import app_commands

from bot.ordering.access import Refused
from bot.ordering.comparing import COMMA
from bot.ordering.orders import where
from bot.ordering.preferences import choose, visible
from bot.ordering.requests import suggest_aspects
from bot.words import _
from inference.catalog.entries import AdapterEntry, ModelEntry
from inference.errors import InferenceError

if TYPE_CHECKING:
    from bot.client import PictureBot

Value = TypeVar("Value", str, int)
MOST, MOST_CHARACTERS = 25, 100
"""Number of suggestions, and length of a suggestion's name or value, by Discord's rules."""


def models(interaction: discord.Interaction[PictureBot], typed: str) -> list[app_commands.Choice[str]]:
    """The models that this server shows, with marks for those in memory and those not on this machine."""
    bot = interaction.client
    shown = {entry.name: entry for entry in visible(bot.store.preferences.rules(interaction.guild_id), bot.catalog)}
    labels = [(f"{entry.title} ({name}) · {entry.family}", name) for name, entry in shown.items()]
    return [
        app_commands.Choice(name=(label + _mark(bot, shown[name]))[:MOST_CHARACTERS], value=name)
        for label, name in matching(labels, typed)
    ]


def _mark(bot: PictureBot, entry: ModelEntry) -> str:
    if bot.catalog.on_disk(entry):
        return " ⚡" if entry.name in bot.dispatcher.resident else ""
    if bot.dispatcher.downloads and bot.catalog.is_downloadable(entry):
        return " · ☁️ " + _("not downloaded yet")
    return " · ✖️ " + _("not on this machine")


def loras(
    interaction: discord.Interaction[PictureBot], typed: str, *, named: str | None
) -> list[app_commands.Choice[str]]:
    """The LoRAs that fit the model that would draw."""
    entry = _entry(interaction, named)
    adapters = interaction.client.catalog.adapters(entry.family)
    labels = [" · ".join([f"{adapter.title} ({adapter.name})", *triggers_of(adapter)]) for adapter in adapters]
    return choices(zip(labels, (adapter.name for adapter in adapters), strict=True), typed)


def triggers_of(adapter: AdapterEntry) -> list[str]:
    """A LoRA's trigger words, worded for people; empty if it needs none."""
    return [_("trigger words: {words}", words=", ".join(adapter.triggers))] if adapter.triggers else []


def list_of_models(interaction: discord.Interaction[PictureBot], typed: str) -> list[app_commands.Choice[str]]:
    """Suggestions for the last of several comma-separated model names."""
    before, last = _last_name(typed)
    return _appended(before, models(interaction, last))


def list_of_loras(
    interaction: discord.Interaction[PictureBot], typed: str, *, named: str | None
) -> list[app_commands.Choice[str]]:
    """The same for LoRAs."""
    before, last = _last_name(typed)
    return _appended(before, loras(interaction, last, named=named))


def _last_name(typed: str) -> tuple[str, str]:
    *before, last = re.split(COMMA, typed)
    return "".join(f"{name.strip()}, " for name in before), last.strip()


def _appended(before: str, found: list[app_commands.Choice[str]]) -> list[app_commands.Choice[str]]:
    """Name and value are the same, because people go on typing after the suggestion that they picked."""
    lists = [before + choice.value for choice in found]
    return [app_commands.Choice(name=names, value=names) for names in lists if len(names) <= MOST_CHARACTERS]


def aspects(
    interaction: discord.Interaction[PictureBot], typed: str, *, named: str | None
) -> list[app_commands.Choice[str]]:
    """The shapes of the model that would draw, with their sizes."""
    found = suggest_aspects(typed, _entry(interaction, named))
    return [app_commands.Choice(name=label, value=ratio) for label, ratio in found]


def _entry(interaction: discord.Interaction[PictureBot], named: str | None) -> ModelEntry:
    """The model that would draw; a half-typed name counts as none."""
    bot = interaction.client
    try:
        return choose(named or None, where(interaction), bot.store.preferences, bot.catalog).entry
    except (InferenceError, Refused):
        return choose(None, where(interaction), bot.store.preferences, bot.catalog).entry


def choices(found: Iterable[tuple[str, Value]], typed: str) -> list[app_commands.Choice[Value]]:
    """Those of the labelled values that match what was typed so far."""
    return [app_commands.Choice(name=label[:MOST_CHARACTERS], value=value) for label, value in matching(found, typed)]


def matching(found: Iterable[tuple[str, Value]], typed: str) -> list[tuple[str, Value]]:
    """The same, no more than Discord takes, with labels not cut yet."""
    wanted = typed.casefold().split()
    return [(label, value) for label, value in found if all(word in label.casefold() for word in wanted)][:MOST]
