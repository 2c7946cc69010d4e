"""Work that outlives the click that began it. Its task is made here, never by the task that answers an interaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("bot.background")


class Background:
    """Runs what it is given while ``run`` runs; what came earlier waits for it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[str, Coroutine[Any, Any, None]]] = asyncio.Queue()
        self._live = 0

    def __len__(self) -> int:
        """How many are at work."""
        return self._live

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Take up ``work``; ``name`` stands in the log should it fail."""
        self._waiting.put_nowait((name, work))

    async def run(self) -> None:
        """One failure is not everybody's: it is logged, and the rest goes on."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    name, work = await self._waiting.get()
                    group.create_task(self._guarded(name, work), name=name)
        finally:
            while not self._waiting.empty():
                self._waiting.get_nowait()[1].close()

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._live += 1
        try:
            await work
        except Exception:
            log.exception("%s failed", name)
        finally:
            self._live -= 1
