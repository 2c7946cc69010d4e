"""What the bot remembers, in one SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.store.database import Database, DatabaseError, open_database
from bot.store.jobs import Jobs
from bot.store.people import People, Person
from bot.store.preferences import Preferences
from bot.store.records import Job, JobState, Origin, Place, StoredPicture
from bot.store.seeds import Seeds

__all__ = [
    "DatabaseError",
    "Job",
    "JobState",
    "Jobs",
    "Origin",
    "People",
    "Person",
    "Place",
    "Preferences",
    "Seeds",
    "Store",
    "StoredPicture",
    "open_store",
]


class Store:
    """The parts of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = Jobs(database)
        self.preferences = Preferences(database)
        self.seeds = Seeds(database)
        self.people = People(database, self.preferences)

    async def remembered(self, key: str) -> str | None:
        """A small fact that the bot stored for itself."""
        row = await self._database.fetch_one("SELECT value FROM remembered WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    async def made_at(self) -> float:
        """When the database was created, in Unix seconds: it cannot know what was drawn earlier."""
        return float(await self.remembered("made_at") or 0.0)

    async def remember(self, key: str, value: str) -> None:
        """Store a small fact, replacing any under ``key``."""
        await self._database.write("INSERT OR REPLACE INTO remembered (key, value) VALUES (?, ?)", (key, value))


@asynccontextmanager
async def open_store(path: Path, *, migrations: Path) -> AsyncIterator[Store]:
    """The store in the database at ``path``; raises ``DatabaseError`` with a sentence for the person who starts it."""
    async with open_database(path, migrations=migrations) as database:
        store = Store(database)
        await store.preferences.load()
        yield store
