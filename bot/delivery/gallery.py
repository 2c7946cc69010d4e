"""The pictures on disk: where each of them is, and that none outlives its job."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bot.delivery.attachments import Attachment, attachment
from bot.store import Jobs
from inference.contract import Picture

log = logging.getLogger("bot.delivery.gallery")

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OURS = re.compile(rf"{UUID}\.png|\.({UUID}\.png\.)?[0-9a-f]{{8}}\.part")
"""The names of pictures and of their unfinished files. Anything else in the folder is somebody else's."""
MOST_LEFT = 64
"""How many files a killed bot may leave; if there are more, another database left them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many files without a job were removed, and how many kept because another database may know them."""

    removed: int
    kept: int


class Gallery:
    """A folder of ``<picture id>.png``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, picture_id: str) -> Path:
        return self._folder / f"{picture_id}.png"

    async def attachment(self, picture_id: str, *, limit: int) -> Attachment | None:
        """A picture as a file for Discord, in at most ``limit`` bytes; None if it cannot be read."""
        try:
            return await asyncio.to_thread(attachment, self.path(picture_id), limit=limit)
        except OSError as error:
            log.warning("picture %s cannot be read: %s", picture_id, error)
            return None

    async def remove(self, picture_ids: Iterable[str]) -> list[str]:
        """Delete pictures; returns those that are gone, and logs those that cannot be deleted."""
        return await asyncio.to_thread(self._remove, list(picture_ids))

    async def remove_unwanted(self, jobs: Jobs) -> None:
        """Delete the pictures of deleted orders; what cannot be deleted is tried again the next time."""
        try:
            await jobs.removed(await self.remove(await jobs.unwanted()))
        except sqlite3.OperationalError as error:
            log.warning("the pictures of deleted orders may still be there: %s", error)

    def discard(self, pictures: Iterable[Picture]) -> None:
        """Delete pictures without waiting for it."""
        names = [picture.id for picture in pictures]
        asyncio.get_running_loop().run_in_executor(None, self._remove, names)

    async def sweep(self, known: set[str], *, since: float) -> Swept:
        """Delete files that no job knows, as left by a bot that was killed while saving.

        Files older than the database (``since``, Unix seconds), or many of them, were not left like that: an empty
        database or an old copy has replaced the one that knows these pictures. They are kept.
        """
        return await asyncio.to_thread(self._sweep, known, since)

    async def remove_older(self, than: float, *, but: set[str]) -> int:
        """Delete pictures from before ``than`` (Unix seconds), except those in ``but``; returns how many it deleted."""
        return await asyncio.to_thread(self._remove_older, than, but)

    def _remove_older(self, than: float, but: set[str]) -> int:
        return _unlink(path for path, changed_at in self._files().items() if path.stem not in but and changed_at < than)

    def _remove(self, picture_ids: list[str]) -> list[str]:
        _unlink(map(self.path, picture_ids))
        return [picture_id for picture_id in picture_ids if not self.path(picture_id).exists()]

    def _sweep(self, known: set[str], since: float) -> Swept:
        unknown = {path: changed_at for path, changed_at in self._files().items() if path.stem not in known}
        left = [path for path, changed_at in unknown.items() if changed_at >= since]
        if len(left) > MOST_LEFT:
            left = []
        return Swept(removed=_unlink(left), kept=len(unknown) - len(left))

    def _files(self) -> dict[Path, float]:
        """All files that the bot has put here, and when (Unix seconds)."""
        found: dict[Path, float] = {}
        for path in self._folder.glob("*"):
            if OURS.fullmatch(path.name):
                with suppress(FileNotFoundError):  # somebody removed it meanwhile
                    found[path] = path.stat().st_mtime
        return found


def _unlink(paths: Iterable[Path]) -> int:
    """Delete files, as far as they exist and can be deleted; returns how many it deleted."""
    gone = 0
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s cannot be deleted: %s", path, error)
        else:
            gone += 1
    return gone
