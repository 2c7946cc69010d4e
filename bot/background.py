"""Work that outlives the click that began it. Its task is created here, never by the task answering an interaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec

P = ParamSpec("P")

log = logging.getLogger("bot.background")


class Background:
    """Runs the work it is given while ``run`` runs; earlier work waits for that."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = asyncio.Queue()
        self._live = 0

    def __len__(self) -> int:
        """How many are running."""
        return self._live

    def begin(self, name: str, work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Take up ``work(*args, **kwargs)``; ``name`` appears in the log if it fails."""
        self._waiting.put_nowait((name, partial(work, *args, **kwargs)))

    async def run(self) -> None:
        """Run all work; a failure is logged and does not affect the rest."""
        async with asyncio.TaskGroup() as group:
            while True:
                name, work = await self._waiting.get()
                group.create_task(self._guarded(name, work), name=name)

    async def _guarded(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._live += 1
        try:
            await work()
        except Exception:
            log.exception("%s failed", name)
        finally:
            self._live -= 1
