"""Personal seed books: seeds worth keeping, by name."""

from __future__ import annotations

import time

from bot.store.database import Database


class Seeds:
    """Everybody's seed books. Names are compared without regard to case."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, user_id: int, name: str, seed: int) -> None:
        """Save a seed, replacing any of this name."""
        await self._database.write(
            "INSERT OR REPLACE INTO seeds (user_id, name, seed, saved_at) VALUES (?, ?, ?, ?)",
            (user_id, name, seed, time.time()),
        )

    async def get(self, user_id: int, name: str) -> int | None:
        row = await self._database.fetch_one("SELECT seed FROM seeds WHERE user_id = ? AND name = ?", (user_id, name))
        return None if row is None else int(row["seed"])

    async def all(self, user_id: int) -> dict[str, int]:
        """A person's seeds by name, in alphabetical order."""
        rows = await self._database.fetch_all(
            "SELECT name, seed FROM seeds WHERE user_id = ? ORDER BY name COLLATE NOCASE", (user_id,)
        )
        return {row["name"]: row["seed"] for row in rows}

    async def forget(self, user_id: int, name: str) -> bool:
        """Remove a seed; False if none has this name."""
        return await self._database.erase("DELETE FROM seeds WHERE user_id = ? AND name = ?", (user_id, name)) > 0
