"""Orders and their pictures in the database: every step of a job's life is one transaction here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bot.store.database import Database
from bot.store.records import Job, JobState, Place, StoredPicture, job_from, picture_from, place_from, to_row
from inference.contract import Finished, Picture
from inference.prompts import literally


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """How many pictures were drawn for how many people."""

    pictures: int
    people: int


class Jobs:
    """The jobs and pictures of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, *jobs: Job) -> None:
        """Insert orders, all of them or none."""
        async with self._database.transaction() as connection:
            for row in map(to_row, jobs):
                columns, marks = ", ".join(row), ", ".join("?" * len(row))
                await connection.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", tuple(row.values()))

    async def get(self, job_id: str) -> Job | None:
        row = await self._database.fetch_one("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return None if row is None else job_from(row)

    async def exists(self, job_id: str) -> bool:
        """Whether the order exists, that is, was not deleted."""
        return await self.get(job_id) is not None

    async def of_message(self, message_id: int) -> Job | None:
        """The job whose card this message is."""
        row = await self._database.fetch_one("SELECT * FROM jobs WHERE message_id = ?", (message_id,))
        return None if row is None else job_from(row)

    async def of_comparison(self, comparison_id: str) -> list[Job]:
        """The orders that share a card, in the order in which they were made."""
        return await self._jobs("WHERE comparison_id = ? ORDER BY rowid", (comparison_id,))

    async def set_message(self, jobs: Iterable[Job], message_id: int) -> None:
        """Remember which message is the card of these jobs."""
        async with self._database.transaction() as connection:
            rows = [(message_id, job.id) for job in jobs]
            await connection.executemany("UPDATE jobs SET message_id = ? WHERE id = ?", rows)

    async def posted(self, job_id: str, place: Place) -> bool:
        """Remember a message that shows the job once more; False if the job has been deleted meanwhile."""
        values = (
            place.message_id,
            place.guild_id,
            place.channel_id,
            place.application_id,
            place.token,
            place.token_expires_at,
            place.member,
            job_id,
        )
        sql = "INSERT INTO reposts SELECT ?, id, ?, ?, ?, ?, ?, ? FROM jobs WHERE id = ?"
        return await self._database.write(sql, values) > 0

    async def not_posted(self, message_id: int) -> None:
        """Forget a message that showed a job once more."""
        await self._database.erase("DELETE FROM reposts WHERE message_id = ?", (message_id,))

    async def forget_cards(self) -> None:
        """Forget all cards: no message is one any more."""
        async with self._database.transaction() as connection:
            await connection.execute("UPDATE jobs SET message_id = NULL WHERE message_id IS NOT NULL")
            await connection.execute("DELETE FROM reposts")

    async def moved(self, job: Job, place: Place) -> None:
        """Remember that the card of ``job``, and of all orders that share it, is now another message."""
        sql = "UPDATE jobs SET channel_id = ?, message_id = ?, token = ?, member = ? WHERE id = ? OR comparison_id = ?"
        where = (place.channel_id, place.message_id, place.token, place.member)
        await self._database.write(sql, (*where, job.id, job.comparison_id))

    async def attempted(self, job_id: str, *, attempts: int, in_hand: bool) -> None:
        """A worker has the order ``in_hand``, or no longer has it and it waits again; so many ``attempts`` count."""
        state = JobState.RUNNING if in_hand else JobState.QUEUED
        sql = "UPDATE jobs SET state = ?, attempts = ? WHERE id = ? AND state IN ('queued', 'running')"
        await self._database.write(sql, (state.value, attempts, job_id))

    async def interrupted(self) -> None:
        """The bot was told to stop, which is no order's fault: attempts under way do not count."""
        await self._database.write("UPDATE jobs SET state = 'queued', attempts = attempts - 1 WHERE state = 'running'")

    async def wait_again(self) -> list[Job]:
        """Orders left behind by a stopped bot, oldest first: whatever it did with them, they are queued now."""
        await self._database.write("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        return await self.unfinished()

    async def finish(self, job_id: str, finished: Finished) -> bool:
        """Record the pictures together with the end of the job; False if the job has been deleted meanwhile."""
        async with self._database.transaction() as connection:
            done = await connection.execute(
                "UPDATE jobs SET state = 'done', seconds = ? WHERE id = ?", (finished.seconds, job_id)
            )
            if done.rowcount == 0:
                return False
            await connection.executemany(
                "INSERT OR REPLACE INTO pictures"
                " (id, job_id, position, seed, width, height, bucket, guided_bucket, pixels_sha256, bytes, explicit,"
                " unread, unread_negative, variation_seed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_picture_row(job_id, picture) for picture in finished.pictures],
            )
        return True

    async def fail(self, job_id: str, failure: str) -> None:
        await self._database.write("UPDATE jobs SET state = 'failed', failure = ? WHERE id = ?", (failure, job_id))

    async def cancel(self, job_id: str) -> None:
        await self._database.write("UPDATE jobs SET state = 'cancelled' WHERE id = ?", (job_id,))

    async def delivered(self, job_id: str, *, missed: bool = False) -> None:
        """Record that the person was shown how the job ended, or that there was no way to show it (``missed``)."""
        sql = "UPDATE jobs SET delivered_at = ?, missed = ? WHERE id = ?"
        await self._database.write(sql, (time.time(), missed, job_id))

    async def missed(self, user_id: int) -> int:
        """How many drawn orders could not be shown to this person."""
        sql = "SELECT count(*) AS missed FROM jobs WHERE user_id = ? AND missed AND state = 'done'"
        row = await self._database.fetch_one(sql, (user_id,))
        return row["missed"] if row else 0

    async def no_longer_missed(self, user_id: int) -> None:
        """Record that the person was shown them, or told about them."""
        await self._database.write(
            "UPDATE jobs SET missed = 0 WHERE user_id = ? AND missed AND state = 'done'", (user_id,)
        )

    async def unfinished(self) -> list[Job]:
        """Unfinished orders, oldest first."""
        return await self._jobs("WHERE state IN ('queued', 'running') ORDER BY created_at")

    async def undelivered(self) -> list[Job]:
        """Jobs that ended without the person being told, oldest first."""
        return await self._jobs("WHERE delivered_at IS NULL AND state NOT IN ('queued', 'running') ORDER BY created_at")

    async def history(
        self, user_id: int, *, limit: int, offset: int = 0, search: str = "", model: str | None = None
    ) -> list[Job]:
        """A person's drawn orders, newest first: those whose prompt contains ``search``, drawn by ``model``.
        Brackets match with and without a backslash before them."""
        where = (
            "WHERE user_id = ? AND state = 'done'"
            " AND (? = '' OR instr(casefold(prompt), casefold(?)) > 0 OR instr(casefold(prompt), casefold(?)) > 0)"
            " AND (? IS NULL OR model = ?) ORDER BY created_at DESC LIMIT ? OFFSET ?"
        )
        said = (search, search, literally(search))
        return await self._jobs(where, (user_id, *said, model, model, limit, offset))

    async def drawn_since(self, time_s: float) -> Drawn:
        """What was drawn and delivered since ``time_s`` (Unix seconds)."""
        row = await self._database.fetch_one(
            "SELECT count(*) AS pictures, count(DISTINCT user_id) AS people FROM jobs"
            " JOIN pictures ON pictures.job_id = jobs.id WHERE jobs.delivered_at >= ?",
            (time_s,),
        )
        assert row is not None
        return Drawn(pictures=row["pictures"], people=row["people"])

    async def pictures(self, job_id: str) -> list[StoredPicture]:
        """The pictures of a job in their order."""
        rows = await self._database.fetch_all("SELECT * FROM pictures WHERE job_id = ? ORDER BY position", (job_id,))
        return [picture_from(row) for row in rows]

    async def picture_ids(self) -> set[str]:
        """The ids of all pictures that jobs have."""
        return {row["id"] for row in await self._database.fetch_all("SELECT id FROM pictures")}

    async def delete(self, job_id: str) -> list[Place]:
        """Delete a job; returns where messages show it once more. Its pictures are ``unwanted`` now."""
        async with self._database.transaction() as connection:
            rows = await self._database.fetch_all("SELECT * FROM reposts WHERE job_id = ?", (job_id,))
            await connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        await self._database.wipe()
        return [place_from(row) for row in rows]

    async def unwanted(self) -> list[str]:
        """The ids of pictures whose order was deleted, and whose files may still be there."""
        async with self._database.transaction():  # or else a deletion that is yet to fail might be seen
            return [row["id"] for row in await self._database.fetch_all("SELECT id FROM unwanted_pictures")]

    async def removed(self, picture_ids: Iterable[str]) -> None:
        """Record that the files of unwanted pictures are gone."""
        async with self._database.transaction() as connection:
            ids = [(picture_id,) for picture_id in picture_ids]
            await connection.executemany("DELETE FROM unwanted_pictures WHERE id = ?", ids)

    async def _jobs(self, where: str, parameters: tuple[Any, ...] = ()) -> list[Job]:
        return [job_from(row) for row in await self._database.fetch_all(f"SELECT * FROM jobs {where}", parameters)]


def _picture_row(job_id: str, p: Picture) -> tuple[Any, ...]:
    size = (p.width, p.height, p.bucket, p.guided_bucket)
    told = (p.explicit, p.unread.prompt, p.unread.negative, p.variation_seed)
    return (p.id, job_id, p.index, p.seed, *size, p.pixels_sha256, p.bytes, *told)
