"""The pictures on disk: where one lies, and that none outlives its job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from bot.delivery.attachments import Attachment, attachment
from inference.contract import Picture

log = logging.getLogger("bot.delivery.gallery")


class Gallery:
    """A folder of ``<picture id>.png``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, picture_id: str) -> Path:
        return self._folder / f"{picture_id}.png"

    async def attachment(self, picture_id: str, *, limit: int) -> Attachment | None:
        """A picture as a file for Discord, in at most ``limit`` bytes; None if somebody took it away."""
        try:
            return await asyncio.to_thread(attachment, self.path(picture_id), limit=limit)
        except OSError as error:
            log.warning("picture %s cannot be read: %s", picture_id, error)
            return None

    async def remove(self, picture_ids: Iterable[str]) -> None:
        """Delete pictures; those that are not there are no matter."""
        await asyncio.to_thread(self._remove, list(picture_ids))

    def discard(self, pictures: Iterable[Picture]) -> None:
        """Delete pictures without anybody waiting for it."""
        names = [picture.id for picture in pictures]
        asyncio.get_running_loop().run_in_executor(None, self._remove, names)

    async def sweep(self, known: set[str]) -> int:
        """Delete what no job knows (left by a bot that was killed while saving); returns how many files went."""
        return await asyncio.to_thread(self._sweep, known)

    def _remove(self, picture_ids: list[str]) -> None:
        for picture_id in picture_ids:
            self.path(picture_id).unlink(missing_ok=True)

    def _sweep(self, known: set[str]) -> int:
        strangers = [path for path in self._folder.glob("*.png") if path.stem not in known]
        strangers += self._folder.glob(".*.part")
        for path in strangers:
            path.unlink(missing_ok=True)
        return len(strangers)
