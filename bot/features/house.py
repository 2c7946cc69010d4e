"""What ``/settings`` does: the rules that a server's managers set for the bot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import discord

from bot.delivery.delivery import NOBODY
from bot.ordering.access import Refused
from bot.ordering.orders import asker
from bot.rules import ChannelModels, Explicit, Rules, Scope
from bot.store import Preferences
from bot.ui.cards import inert
from bot.ui.replies import think
from bot.words import N_, _
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry

MOST_NAMES = 15
NAME_CHARACTERS = 50
"""Maximum hidden models in one answer, which has 2000 characters, and maximum length of their names."""


class House:
    """Answers the subcommands of ``/settings``. Only managers of the server may use them; Discord is told so, too."""

    def __init__(self, *, catalog: Catalog, preferences: Preferences) -> None:
        self._catalog = catalog
        self._preferences = preferences

    async def show(self, interaction: discord.Interaction) -> None:
        sheet = self._sheet(interaction, self._rules(interaction))
        await interaction.response.send_message(sheet, ephemeral=True, allowed_mentions=NOBODY)

    async def hide(self, interaction: discord.Interaction, name: str) -> None:
        """Hide a model on this server."""
        rules, entry = self._rules(interaction), self._catalog.find(name)
        hidden = rules.hidden_models | {entry.name}
        if all(other.name in hidden for other in self._catalog):
            raise Refused(_("At least one model must stay visible."))
        await self._change(interaction, replace(rules, hidden_models=hidden))

    async def allow(self, interaction: discord.Interaction, name: str) -> None:
        """Bring a hidden model back."""
        rules = self._rules(interaction)
        hidden = rules.hidden_models
        meant = name if name in hidden else self._catalog.find(name).name  # a model that is gone can be allowed, too
        if meant not in hidden:
            raise Refused(_("“{model}” is not hidden.", model=inert(name, NAME_CHARACTERS)))
        await self._change(interaction, replace(rules, hidden_models=hidden - {meant}))

    async def limits(self, interaction: discord.Interaction, **limits: int | None) -> None:
        """Change the given limits; 0 removes one."""
        given: dict[str, Any] = {name: value or None for name, value in limits.items() if value is not None}
        if not given:
            raise Refused(_("Set at least one limit; 0 removes it."))
        await self._change(interaction, replace(self._rules(interaction), **given))

    async def channel_models(self, interaction: discord.Interaction, who: ChannelModels) -> None:
        """Set who may choose the model of a channel."""
        await self._change(interaction, replace(self._rules(interaction), channel_models=who))

    async def explicit(self, interaction: discord.Interaction, policy: Explicit) -> None:
        """Set what happens to pictures that may be explicit."""
        await self._change(interaction, replace(self._rules(interaction), explicit=policy))

    async def reset(self, interaction: discord.Interaction) -> None:
        """Reset to the bot's defaults."""
        self._rules(interaction)
        await self._change(interaction, Rules(), model_too=True)

    def hidden(self, interaction: discord.Interaction) -> list[ModelEntry]:
        """The models that are hidden here."""
        rules = self._preferences.rules(interaction.guild_id)
        return [entry for entry in self._catalog if entry.name in rules.hidden_models]

    def _rules(self, interaction: discord.Interaction) -> Rules:
        """The current rules; raises ``Refused`` for people who may not manage them."""
        if interaction.guild_id is None:
            raise Refused(_("Only servers have settings."))
        if not asker(interaction).permissions.manage_guild:
            raise Refused(_("The settings require the Manage Server permission."))
        return self._preferences.rules(interaction.guild_id)

    async def _change(self, interaction: discord.Interaction, rules: Rules, *, model_too: bool = False) -> None:
        """Set the rules; ``model_too``: forget the server's model."""
        assert interaction.guild_id is not None
        await think(interaction, ephemeral=True)
        if model_too:
            await self._preferences.forget_model(Scope.SERVER, interaction.guild_id)
        await self._preferences.set_rules(interaction.guild_id, rules)
        sheet = self._sheet(interaction, rules)
        await interaction.edit_original_response(content=sheet, allowed_mentions=NOBODY)

    def _sheet(self, interaction: discord.Interaction, rules: Rules) -> str:
        chosen = self._preferences.model(Scope.SERVER, interaction.guild_id)
        return _sheet(rules, chosen or self._catalog.default.name)


def _sheet(rules: Rules, model: str) -> str:
    unlimited = _("the bot's own limit")

    def limit(value: int | None) -> str:
        return unlimited if value is None else str(value)

    lines = [
        "⚙️ **" + _("Settings of this server") + "**",
        _("Model: {model}", model=inert(model)),
        _("Hidden models: {models}", models=_listed(sorted(rules.hidden_models)) or "–"),
        _("Waiting orders per person: {limit}", limit=limit(rules.waiting_limit)),
        _("Longest side in pixels: {limit}", limit=limit(rules.largest_side)),
        _("Steps per picture: {limit}", limit=limit(rules.most_steps)),
        _("Pictures per order: {limit}", limit=limit(rules.most_pictures)),
        _("Who may choose a channel's model: {who}", who=_(_WHO[rules.channel_models])),
        _(
            "Possibly explicit pictures outside age-restricted channels: {policy}",
            policy=_(_POLICY[rules.explicit]),
        ),
    ]
    return "\n".join(lines)


def _listed(names: list[str]) -> str:
    shown = [inert(name, NAME_CHARACTERS) for name in names[:MOST_NAMES]]
    more = [_("and {count} more", count=len(names) - MOST_NAMES)] if len(names) > MOST_NAMES else []
    return ", ".join(shown + more)


_WHO = {
    ChannelModels.MODERATORS: N_("anyone who can manage channels"),
    ChannelModels.EVERYONE: N_("everyone"),
}
_POLICY = {
    Explicit.BLOCK: N_("not shown"),
    Explicit.SPOILER: N_("covered until clicked"),
    Explicit.ALLOW: N_("shown"),
}
