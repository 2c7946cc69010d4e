"""``python -m bot``: reads the settings, says in one sentence what is wrong with them, or runs the bot.

Nothing heavy is imported at the top: worker processes are spawned from this module and must not pull Discord in.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from bot.settings import ROOT, Settings, SettingsError, explain
from inference.processes.child import LOG_FORMAT


def main() -> int:
    """Run until interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bot",
        description="A Discord bot that draws pictures from prompts. Without DISCORD_TOKEN it opens a local preview.",
        epilog="Settings, from the environment or .env (in the current folder, or else the program's):\n" + explain(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    from bot.env_file import warnings
    from inference.env_file import read_env

    os.umask(0o077)  # prompts, tokens and withheld pictures are nobody else's to read
    env = read_env((Path.cwd(), ROOT))
    try:
        settings = Settings.from_environ({**env, **os.environ})
    except SettingsError as error:
        return _refuse(error)
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    for warning in warnings(env):
        logging.getLogger("bot").warning(warning)
    os.environ.update(settings.environ)  # the hub's client reads them when it is imported
    if settings.discord_token is None:
        logging.getLogger("discord").setLevel(logging.ERROR)  # SimCord's probes cause warnings that do not matter
    from bot.app import StartError, run

    try:
        asyncio.run(run(settings))
    except StartError as error:
        return _refuse(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    return 0


def _refuse(error: Exception) -> int:
    print(f"The bot cannot start. {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
