"""What ``/about`` and ``/help`` say; the help is made from the command tree, so it cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from discord import app_commands

from bot.words import _
from inference.catalog import Catalog


def about(catalog: Catalog) -> str:
    """Who the bot is, in a few lines."""
    return "\n".join(
        [
            "**" + _("Pictures from words, in a few steps") + "**",
            _("I draw what you describe, with Latent Consistency Models, on this community's own machine."),
            _("{models} models · version {version} · open source, MIT", models=len(catalog), version=_version()),
            _("`/imagine` draws, `/help` lists everything, `/privacy` covers what I remember about you."),
        ]
    )


def help_text(tree: app_commands.CommandTree[Any]) -> str:
    """Every command with its description."""
    lines = [f"`/{_named(command)}` – {_(command.description)}" for command in _commands(tree.get_commands())]
    menus = [command.name for command in tree.get_commands() if isinstance(command, app_commands.ContextMenu)]
    if menus:
        names = ", ".join(f"**{_(name)}**" for name in menus)
        lines.append(_("On any message, under Apps: {menus}", menus=names))
    lines.append(_("Flags such as `--ar 3:2 --seed 5 --no blur --steps 6` also work in a prompt."))
    lines.append(
        _("`(red:1.3)` gives a word more weight, `(red:0.7)` less; `(red)` a little more, `[red]` a little less.")
    )
    return "\n".join(lines)


def _commands(found: Iterable[Any]) -> Iterator[app_commands.Command[Any, ..., Any]]:
    for command in sorted(found, key=lambda one: str(one.name)):
        if isinstance(command, app_commands.Group):
            yield from _commands(command.commands)
        elif isinstance(command, app_commands.Command):
            yield command


def _named(command: app_commands.Command[Any, ..., Any]) -> str:
    """A command's name as Discord shows it in this language."""
    return " ".join(_(name) for name in command.qualified_name.split())


def _version() -> str:
    try:
        return version("lcm-discord-bot")
    except PackageNotFoundError:
        return "0"
