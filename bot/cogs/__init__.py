"""The commands, one file each. A cog declares options and hands them on; it does nothing else."""

from __future__ import annotations

from bot.cogs.history import History
from bot.cogs.imagine import Imagine

COGS = (Imagine, History)
