"""The commands, one file each. A cog declares options and hands them on; it does nothing else."""

from __future__ import annotations

from bot.cogs.about import About
from bot.cogs.compare import Compare
from bot.cogs.history import History
from bot.cogs.imagine import Imagine
from bot.cogs.model import Model
from bot.cogs.privacy import Privacy
from bot.cogs.queue import Queue
from bot.cogs.seed import Seed
from bot.cogs.settings import Settings

COGS = (Imagine, Compare, Model, Seed, History, Queue, Settings, Privacy, About)
