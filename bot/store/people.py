"""Everything that the database holds about one person: read as a whole, and removed as a whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bot.rules import Scope
from bot.store.database import Database
from bot.store.preferences import Preferences
from bot.store.records import Job, JobState, Place, StoredPicture, job_from, picture_from, place_from

UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
FORGET = (
    "DELETE FROM jobs WHERE user_id = ?",
    "DELETE FROM seeds WHERE user_id = ?",
    "DELETE FROM seed_locks WHERE user_id = ?",
    "DELETE FROM choices WHERE scope = 'user' AND scope_id = ?",
    "UPDATE choices SET chosen_by = 0 WHERE chosen_by = ?",
)
"""A model chosen for a channel or a server stays chosen; only who chose it is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSeed:
    """An entry of a seed book; ``saved_at`` in Unix seconds."""

    name: str
    seed: int
    saved_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeChoice:
    """A model that the person chose, for themselves, a channel or a server; ``chosen_at`` in Unix seconds."""

    scope: Scope
    scope_id: int
    model: str
    chosen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """All that is known about a person; jobs and pictures oldest first; ``reposts`` are messages that show some of them
    once more."""

    user_id: int
    jobs: tuple[Job, ...]
    pictures: tuple[StoredPicture, ...]
    seeds: tuple[KeptSeed, ...]
    choices: tuple[MadeChoice, ...]
    locked_seed: int | None
    reposts: tuple[Place, ...] = ()

    @property
    def unfinished(self) -> tuple[Job, ...]:
        """The orders that still wait or are being drawn."""
        return tuple(job for job in self.jobs if job.state in UNFINISHED)

    @property
    def model(self) -> str | None:
        """The model that they chose for themselves."""
        return next((choice.model for choice in self.choices if choice.scope is Scope.USER), None)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.seeds or self.choices or self.locked_seed is not None)


class People:
    """The people in one database."""

    def __init__(self, database: Database, preferences: Preferences) -> None:
        self._database = database
        self._preferences = preferences

    async def get(self, user_id: int) -> Person:
        """A person's record, which is false if nothing is known about them."""
        fetch = self._database.fetch_all
        jobs = await fetch("SELECT * FROM jobs WHERE user_id = ? ORDER BY created_at, id", (user_id,))
        pictures = await fetch(
            "SELECT pictures.* FROM pictures JOIN jobs ON jobs.id = job_id WHERE user_id = ?"
            " ORDER BY created_at, job_id, position",
            (user_id,),
        )
        reposts = await fetch(
            "SELECT reposts.* FROM reposts JOIN jobs ON jobs.id = job_id WHERE user_id = ? ORDER BY reposts.message_id",
            (user_id,),
        )
        seeds = await fetch("SELECT name, seed, saved_at FROM seeds WHERE user_id = ? ORDER BY name", (user_id,))
        choices = await fetch("SELECT * FROM choices WHERE chosen_by = ? ORDER BY chosen_at", (user_id,))
        orders, drawn = await asyncio.to_thread(  # tens of thousands, maybe
            lambda: (tuple(map(job_from, jobs)), tuple(map(picture_from, pictures)))
        )
        return Person(
            user_id=user_id,
            jobs=orders,
            pictures=drawn,
            reposts=tuple(map(place_from, reposts)),
            seeds=tuple(KeptSeed(**dict(row)) for row in seeds),
            choices=tuple(
                MadeChoice(
                    scope=Scope(row["scope"]),
                    scope_id=row["scope_id"],
                    model=row["model"],
                    chosen_at=row["chosen_at"],
                )
                for row in choices
            ),
            locked_seed=self._preferences.locked_seed(user_id),
        )

    async def forget(self, user_id: int) -> Person:
        """Remove every row about a person, all of them or none; returns what there was.

        The caller cancels orders and removes files: the pictures are ``Jobs.unwanted`` now.
        """
        async with self._database.transaction() as connection:
            person = await self.get(user_id)
            for sql in FORGET:
                await connection.execute(sql, (user_id,))
        self._preferences.forget_person(user_id)
        await self._database.wipe()
        return person
