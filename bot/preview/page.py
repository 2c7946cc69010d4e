"""The page in the browser, kept up to date while people use it.

SimCord's page shows what was last published. Publishing and a person's action must not overlap, and an action on a page
that has been republished since is rejected; both would hit people who click while cards are changing. So they take
turns here, and an action still counts if its target has not changed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

TICK_S = 0.2
"""Seconds between two checks whether the bot has sent something."""
SHARE = 0.25
"""Share of the time that publishing may take: a page full of pictures is slow to build, on the bot's own event loop."""
MEMORY = 16
"""Publications that are remembered; the browser polls for a new one twice a second."""


class Page:
    """An open SimCord preview."""

    def __init__(self, env: Any, preview: Any) -> None:
        self._env = env
        self._preview = preview
        self._turn = asyncio.Lock()
        self._published: deque[tuple[str, int, Any]] = deque(maxlen=MEMORY)
        self._act = preview._action
        preview._action = self._act_in_turn  # the one entry point for everything done in the browser

    @property
    def url(self) -> str:
        """The page's URL; anyone who knows it can act as the person."""
        return str(self._preview.url)

    async def closed(self) -> None:
        """Wait until the person ends the session in the page."""
        await self._preview.wait_closed()

    async def keep_fresh(self) -> None:
        """Publish whenever the bot has sent something, and let SimCord's clock run, until the page is closed."""
        from simcord import SetupError

        shown, then = 0, time.monotonic()
        pause_s = TICK_S
        while not self._preview._closed:
            await asyncio.sleep(pause_s)
            now = time.monotonic()
            self._env.backend.advance_clock(now - then)
            then, sent = now, len(self._env.http_requests)
            if sent != shown:
                with suppress(SetupError, TimeoutError):  # closing, or not at rest yet
                    await self._publish()
                    shown = sent
                pause_s = max(TICK_S, (time.monotonic() - now) / SHARE)

    async def _publish(self) -> None:
        async with self._turn:
            for tab in self._preview._pages.values():
                self._published.append((tab.id, tab.revision, tab.snapshot))
            await self._preview.refresh()

    async def _act_in_turn(self, tab_id: str | None, action: Mapping[str, Any]) -> Any:
        async with self._turn:
            return await self._act(tab_id, self._brought_up_to_date(tab_id, action))

    def _brought_up_to_date(self, tab_id: str | None, action: Mapping[str, Any]) -> Mapping[str, Any]:
        tab = self._preview._pages.get(tab_id)
        if tab is None or not isinstance(action, Mapping):
            return action
        for seen_in, revision, snapshot in self._published:
            if (seen_in, revision) == (tab_id, action.get("published_revision")) and _same_target(
                action, snapshot, tab.snapshot
            ):
                return {**action, "published_revision": tab.revision}
        return action


def _same_target(action: Mapping[str, Any], seen: Any, current: Any) -> bool:
    """Whether the message that the action targets looks the same now as the person saw it; true if there is none."""
    target = str(action.get("target_id"))
    return bool(seen["messages"].get(target) == current["messages"].get(target))
