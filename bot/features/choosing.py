"""What ``/model use``, ``reset`` and ``which`` do: remember which model draws for whom, and explain it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

import discord
from discord import ui

from bot.delivery.delivery import NOBODY
from bot.ordering.access import Refused, require_may_choose
from bot.ordering.orders import asker, where
from bot.ordering.preferences import choose, remembered
from bot.rules import Scope
from bot.store import Preferences
from bot.ui.cards import inert
from bot.ui.items import Pressable
from bot.ui.replies import think
from bot.words import N_, _
from inference.catalog import Catalog
from inference.dispatch.dispatcher import Dispatcher

if TYPE_CHECKING:
    from bot.client import PictureBot


class Choosing:
    """Keeps the choices of people, channels and servers."""

    def __init__(self, *, catalog: Catalog, preferences: Preferences, dispatcher: Dispatcher) -> None:
        self._catalog = catalog
        self._preferences = preferences
        self._dispatcher = dispatcher

    async def use(self, interaction: discord.Interaction, *, name: str, scope: Scope) -> None:
        """Remember which model draws for a person, a channel or a server."""
        here, rules = where(interaction), self._preferences.rules(interaction.guild_id)
        require_may_choose(scope, asker(interaction), rules, guild_id=interaction.guild_id)
        entry = choose(name, here, self._preferences, self._catalog).entry
        if not (self._catalog.on_disk(entry) or (self._dispatcher.downloads and self._catalog.is_downloadable(entry))):
            raise Refused(
                _(
                    "“{model}” is not on this machine, and the bot cannot download it. `/model list` shows what "
                    "is here.",
                    model=entry.title,
                )
            )
        await think(interaction, ephemeral=scope is Scope.USER)
        scope_id = _scope_id(scope, interaction)
        await self._preferences.choose_model(scope, scope_id, entry.name, chosen_by=interaction.user.id)
        said = _(_CHOSEN[scope], model=inert(entry.title))
        winner = choose(None, here, self._preferences, self._catalog)
        if winner.entry is not entry:
            said += "\n-# " + _(
                "Here, {model} still draws: {reason}.",
                model=inert(winner.entry.title),
                reason=_(_REASONS[winner.scope]),
            )
        await interaction.edit_original_response(content=said, allowed_mentions=NOBODY)

    async def reset(self, interaction: discord.Interaction, *, scope: Scope) -> None:
        """Forget which model was to draw for a person, a channel or a server."""
        rules = self._preferences.rules(interaction.guild_id)
        require_may_choose(scope, asker(interaction), rules, guild_id=interaction.guild_id)
        scope_id = _scope_id(scope, interaction)
        if self._preferences.model(scope, scope_id) is None:
            raise Refused(_("There was no choice to undo."))
        await think(interaction, ephemeral=scope is Scope.USER)
        await self._preferences.forget_model(scope, scope_id)
        winner = choose(None, where(interaction), self._preferences, self._catalog)
        said = _(
            "Choice undone. {model} now draws here: {reason}.",
            model=inert(winner.entry.title),
            reason=_(_REASONS[winner.scope]),
        )
        await interaction.edit_original_response(content=said, allowed_mentions=NOBODY)

    async def which(self, interaction: discord.Interaction) -> None:
        """Explain which model would draw here, and who decided that."""
        here = where(interaction)
        winner = choose(None, here, self._preferences, self._catalog)
        title = inert(winner.entry.title)
        lines = [_("**{model}** draws here: {reason}.", model=title, reason=_(_REASONS[winner.scope]))]
        found = dict(remembered(here, self._preferences)) | {Scope.CATALOGUE: self._catalog.default.name}
        for scope in (Scope.CHANNEL, Scope.USER, Scope.SERVER, Scope.CATALOGUE):
            mark = "✅" if scope is winner.scope else "·"
            lines.append(f"-# {mark} {_(_SCOPES[scope])}: {inert(found.get(scope, '')) or '–'}")
        lines.append("-# " + _("A model named in `/imagine` takes precedence over all of these."))
        await interaction.response.send_message("\n".join(lines), ephemeral=True, allowed_mentions=NOBODY)


class Use(Pressable, ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"use_model:(?P<model>.{1,80})"):
    """Chooses a model for the person who presses."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(ui.Button(label=_("Use this model"), emoji="🖌️", custom_id=f"use_model:{model}"[:100]))

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["model"])

    async def press(self, interaction: discord.Interaction[PictureBot]) -> None:
        await interaction.client.choosing.use(interaction, name=self.model, scope=Scope.USER)


_CHOSEN = {
    Scope.USER: N_("From now on, {model} draws for you wherever a channel has no model of its own."),
    Scope.CHANNEL: N_("From now on, {model} draws in this channel."),
    Scope.SERVER: N_(
        "From now on, {model} draws on this server where neither the channel nor the person has chosen one."
    ),
}
_REASONS = {
    Scope.CALL: N_("you named it"),
    Scope.CHANNEL: N_("it was chosen for this channel"),
    Scope.USER: N_("you chose it for yourself"),
    Scope.SERVER: N_("it was chosen for this server"),
    Scope.CATALOGUE: N_("nobody has chosen another one"),
}
_SCOPES = {
    Scope.CHANNEL: N_("this channel"),
    Scope.USER: N_("you"),
    Scope.SERVER: N_("this server"),
    Scope.CATALOGUE: N_("the bot"),
}


def _scope_id(scope: Scope, interaction: discord.Interaction) -> int:
    here = where(interaction)
    found = {Scope.USER: here.user_id, Scope.CHANNEL: here.channel_id, Scope.SERVER: here.guild_id}[scope]
    assert found is not None  # ensured by require_may_choose
    return found
