"""Work that outlives the click that began it. Its task is created here, never by the task answering an interaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("bot.background")


class Background:
    """Runs the work it is given while ``run`` runs; earlier work waits for that."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[str, Coroutine[Any, Any, None]]] = asyncio.Queue()
        self._live = 0

    def __len__(self) -> int:
        """How many are running."""
        return self._live

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Take up ``work``; ``name`` appears in the log if it fails."""
        self._waiting.put_nowait((name, work))

    async def run(self) -> None:
        """Run all work; a failure is logged and does not affect the rest."""
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
