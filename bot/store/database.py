"""The SQLite file: opened by one bot at a time, migrated, and written in whole transactions."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeAlias

import aiosqlite

log = logging.getLogger("bot.store.database")

Parameters: TypeAlias = tuple[Any, ...]
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "busy_timeout = 5000",
    "secure_delete = ON",  # what people had deleted must not stay readable in the file
)


class DatabaseError(Exception):
    """The bot cannot work with this database; the message says why and what to do."""


class Database:
    """One connection. Reads may happen at any time; writes go through ``transaction``, one after the other.

    The connection is shared by all tasks, so a write outside ``transaction`` would slip into somebody else's.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._writing = asyncio.Lock()

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> Iterable[aiosqlite.Row]:
        return await self._connection.execute_fetchall(sql, parameters)

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> aiosqlite.Row | None:
        """The first row, if any. It is fetched in one go: a statement left open meanwhile would keep ``wipe`` from its
        work."""
        return next(iter(await self.fetch_all(sql, parameters)), None)

    async def write(self, sql: str, parameters: Parameters = ()) -> int:
        """One statement as a transaction of its own; returns how many rows it changed."""
        async with self.transaction() as connection:
            return (await connection.execute(sql, parameters)).rowcount

    async def erase(self, sql: str, parameters: Parameters = ()) -> int:
        """A deletion as a transaction of its own, then ``wipe``; returns how many rows it deleted."""
        gone = await self.write(sql, parameters)
        await self.wipe()
        return gone

    async def wipe(self) -> None:
        """Remove deleted data from all files: until then the write-ahead log may still contain it, and its erasure from
        the main file is pending. If somebody else is reading the database, that has to wait for the next deletion.

        Must be called outside of transactions.
        """
        async with self._writing:
            try:
                row = await self.fetch_one("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:  # the rows are deleted all the same
                log.warning("deleted data may still be readable in the database's files: %s", error)
            else:
                if row is not None and row[0]:
                    log.warning("deleted data may still be readable in the database's files: they are in use")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """All or nothing."""
        async with self._writing:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                await self._connection.commit()
            except BaseException:  # a cancelled BEGIN is carried out by the connection's thread all the same
                await self._connection.rollback()
                raise


@asynccontextmanager
async def open_database(path: Path, *, migrations: Path) -> AsyncIterator[Database]:
    """Open or create the database at ``path``, bring it up to date, and keep other bots away until the end.

    Raises ``DatabaseError`` if the folder or the file cannot be written, another bot has the database, or it is damaged
    or newer than this program.
    """
    with closing(_lock(path)):
        connection = await _connected(path, migrations)
        try:
            yield Database(connection)
        finally:
            await connection.close()


async def _connected(path: Path, migrations: Path) -> aiosqlite.Connection:
    try:
        # Opened here, not by aiosqlite, which leaves its thread behind if a file cannot be opened.
        opened = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    connection = aiosqlite.Connection(lambda: opened, iter_chunk_size=64)
    try:
        await connection
        connection.row_factory = aiosqlite.Row
        await connection.create_function("casefold", 1, str.casefold, deterministic=True)  # lower() is for ASCII
        for pragma in PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
        await connection.execute("BEGIN IMMEDIATE")  # a read-only file shows only here
        await connection.rollback()
        await _migrate(connection, path, migrations)
    except BaseException as error:
        await connection.close()
        if isinstance(error, sqlite3.Error):
            raise _unusable(path, error) from error
        raise
    return connection


def _unusable(path: Path, error: sqlite3.Error) -> DatabaseError:
    return DatabaseError(
        f"{path} cannot be used ({error}). If it is damaged, move it away together with {path.name}-wal and "
        f"{path.name}-shm, and put a copy in its place if you have one; if it belongs to another user, fix "
        "its permissions; if the disk is full, make room."
    )


def _lock(path: Path) -> sqlite3.Connection:
    """Hold a lock that the operating system releases when the process ends, however it ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(lock_path, timeout=0.5, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        lock.execute("PRAGMA user_version = 1")  # a read-only folder shows only at the first write
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise DatabaseError(f"Another bot is using {path}. Stop it, or set DATA_DIR to another folder.") from error
        raise DatabaseError(
            f"The data folder {path.parent} cannot be written to ({error}). Fix its permissions, or set DATA_DIR to "
            "a folder that this user can write to."
        ) from error
    return lock


async def _migrate(connection: aiosqlite.Connection, path: Path, migrations: Path) -> None:
    """Apply the numbered files that the database lacks, each together with its number or not at all."""
    files = _numbered(migrations)
    async with connection.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    version = row[0] if row else 0
    if version > max(files, default=0):
        raise DatabaseError(
            f"{path} was written by a newer version of the bot (schema {version}, this one knows {max(files)}). "
            f"Update the bot, or set DATA_DIR to another folder.{_way_back(path, max(files))}"
        )
    missing = sorted(number for number in files if number > version)
    if version and missing:
        await _keep_copy(connection, path, missing[0])
    for number in missing:
        script = files[number].read_text(encoding="utf-8")
        try:
            await connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error as error:
            await connection.rollback()
            raise DatabaseError(f"Migration {files[number].name} failed on {path}: {error}") from error


async def _keep_copy(connection: aiosqlite.Connection, path: Path, number: int) -> None:
    """Keep a copy of the database from before this migration, after which no older version of the bot could read it;
    the newest copy is enough."""
    copy = path.with_name(f"{path.name}.before-{number:04}")
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    await connection.execute("VACUUM INTO ?", (str(part),))
    part.replace(copy)
    for older in _copies(path):
        if older != copy:
            older.unlink()


def remove_copies(path: Path, *, older_than: float) -> None:
    """Remove copies of the database at ``path`` from before ``older_than`` (Unix seconds): they still hold what people
    have had deleted since."""
    for copy in _copies(path):
        if copy.stat().st_mtime < older_than:
            copy.unlink(missing_ok=True)


def _copies(path: Path) -> list[Path]:
    """The copies kept of the database at ``path``."""
    return [found for found in path.parent.glob(f"{path.name}.before-*") if re.fullmatch(r".+-\d{4}", found.name)]


def _way_back(path: Path, known: int) -> str:
    """A sentence about a copy with which a bot that knows the first ``known`` migrations could go on."""
    for copy in _copies(path):
        if int(copy.name[-4:]) <= known + 1:
            return (
                f" {copy} is a copy from before the upgrade: it can replace {path.name}, {path.name}-wal and "
                f"{path.name}-shm, but lacks everything since then."
            )
    return ""


def _numbered(migrations: Path) -> dict[int, Path]:
    matches = ((re.match(r"(\d{4})_", file.name), file) for file in migrations.glob("*.sql"))
    return {int(match[1]): file for match, file in matches if match}
