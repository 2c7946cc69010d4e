"""Which model draws: the one place that decides between call, channel, person, server and catalogue. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bot.ordering.access import not_used_here
from bot.rules import Rules, Scope
from bot.store import Preferences
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Who asks, and where; a thread's ``channel_id`` is that of the channel it belongs to."""

    user_id: int
    channel_id: int | None
    guild_id: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The model, and whose choice it is."""

    entry: ModelEntry
    scope: Scope


def choose(named: str | None, where: Where, preferences: Preferences, catalog: Catalog) -> Choice:
    """The model that draws.

    Raises ``InferenceError(UnknownModel)`` if ``named`` is not in the catalogue, and ``Refused`` if this server does
    not show it. A remembered choice that has become impossible is passed over.
    """
    rules = preferences.rules(where.guild_id)
    if named is not None:
        entry = catalog.find(named)
        if entry.name in rules.hidden_models:
            raise not_used_here(entry.title)
        return Choice(entry, Scope.CALL)
    for scope, name in remembered(where, preferences):
        chosen = catalog.get(name)
        if chosen is not None and name not in rules.hidden_models:
            return Choice(chosen, scope)
    if catalog.default.name in rules.hidden_models:
        for entry in visible(rules, catalog):
            return Choice(entry, Scope.CATALOGUE)
    return Choice(catalog.default, Scope.CATALOGUE)


def remembered(where: Where, preferences: Preferences) -> Iterator[tuple[Scope, str]]:
    """The choices for the place and the person, the deciding one first."""
    for scope, scope_id in (
        (Scope.CHANNEL, where.channel_id),
        (Scope.USER, where.user_id),
        (Scope.SERVER, where.guild_id),
    ):
        name = preferences.model(scope, scope_id)
        if name is not None:
            yield scope, name


def visible(rules: Rules, catalog: Catalog) -> list[ModelEntry]:
    """The models that a server shows."""
    return [entry for entry in catalog if entry.name not in rules.hidden_models]
