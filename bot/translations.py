"""Keeps the catalogues of ``bot/locale`` complete: ``python -m bot.translations`` adds new sentences of the sources.

Sentences come from the sources; names and descriptions of commands from the command tree, because Discord shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po
from discord import app_commands

from bot.words import LOCALES
from inference.errors import FIELDS

ROOT = Path(__file__).resolve().parent.parent
KEYWORDS = {"_": None, "N_": None, "say": None}
SOURCES = [("cli/**.py", "ignore"), ("**.py", "python")]  # what the command line says is in English


def sentences() -> set[str]:
    """Everything that the sources of the bot, and of the errors that it reports, mark for translation."""
    found: set[str] = set()
    for folder in (ROOT / "bot", ROOT / "inference"):
        for _file, _line, message, _comments, _context in extract_from_dir(folder, SOURCES, keywords=KEYWORDS):
            found.add(message if isinstance(message, str) else message[0])
    return found | set(FIELDS)


def command_words(commands: list[Any]) -> Iterator[str]:
    """What Discord shows of commands: names, descriptions, options and their choices."""
    for command in commands:
        yield command.name
        if isinstance(command, app_commands.ContextMenu):
            continue
        yield command.description
        if isinstance(command, app_commands.Group):
            yield from command_words(command.commands)
            continue
        for parameter in command.parameters:
            yield parameter.display_name
            yield str(parameter.description)
            yield from (choice.name for choice in parameter.choices)


def commands() -> list[Any]:
    """The bot's commands, without a bot."""
    from bot.cogs import COGS
    from bot.features.menus import MENUS

    nobody: Any = None
    found: list[Any] = [command for cog in COGS for command in _of_cog(cog(nobody))]
    return found + list(MENUS)


def _of_cog(cog: Any) -> list[Any]:
    group = cog.app_command
    return [group] if group is not None else list(cog.get_app_commands())


def main() -> int:
    """Update every catalogue; new entries wait for their translation."""
    template = Catalog()
    for message in sorted(sentences() | set(command_words(commands()))):
        template.add(message)
    for path in sorted(LOCALES.glob("*.po")):
        with path.open("rb") as file:
            catalogue = read_po(file)
        catalogue.update(template, no_fuzzy_matching=True)
        catalogue.header_comment = (
            f"# What the bot says in {path.stem}; `python -m bot.translations` keeps it complete."
        )
        with path.open("wb") as file:
            write_po(file, catalogue, width=120, sort_output=True, ignore_obsolete=True, omit_header=False)
        missing = [message.id for message in catalogue if message.id and not message.string]
        print(f"{path.name}: {len(catalogue)} sentences, {len(missing)} to translate")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
