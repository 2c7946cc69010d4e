"""The store: what is written stays written, half-done work leaves nothing, wrong databases are refused."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bot.settings import ROOT
from bot.store import DatabaseError, Job, JobState, Origin, Place, Store, open_store
from bot.store.records import to_row
from inference.contract import Adapter, ImageRequest, Variation, picture_id
from inference.prompts import read_weights
from tests.bot.conftest import finished as drawn

MIGRATIONS = ROOT / "migrations"


def a_job(**changes: object) -> Job:
    job = Job(
        id=str(uuid.uuid4()),
        state=JobState.QUEUED,
        origin=Origin.IMAGINE,
        parent_id=None,
        user_id=2**62,
        place=Place(
            guild_id=1,
            channel_id=2,
            message_id=None,
            application_id=3,
            token="token",
            token_expires_at=time.time() + 900,
            attachment_size_limit=10 * 2**20,
        ),
        request=ImageRequest(
            prompt="a red apple; DROP TABLE jobs 🍎",
            model="emoji",
            seed=2**32 - 1,
            count=2,
            steps=4,
            guidance=1.5,
            width=128,
            height=128,
            adapters=(Adapter(name="flat", strength=0.5),),
            bucket=4,
            guided_bucket=2,
        ),
        created_at=time.time(),
    )
    return replace(job, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bot.sqlite3"


async def test_a_job_comes_back_as_it_was_after_a_restart(path: Path) -> None:
    job = a_job()
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
    async with open_store(path, migrations=MIGRATIONS) as store:
        assert await store.jobs.get(job.id) == job
        assert await store.jobs.unfinished() == [job]


async def test_a_variation_comes_back_as_it_was_after_a_restart(path: Path) -> None:
    job = a_job(request=replace(a_job().request, variation=Variation(seed=2**32 - 1, strength=0.2)))
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, drawn(job))
    async with open_store(path, migrations=MIGRATIONS) as store:
        restored = await store.jobs.get(job.id)
        assert restored is not None
        assert restored.request == job.request
        pictures = await store.jobs.pictures(job.id)
        assert [(p.seed, p.variation_seed) for p in pictures] == [(2**32 - 1, 2**32 - 1), (2**32 - 1, 0)]


async def test_a_finished_job_has_its_pictures_and_waits_for_delivery(path: Path) -> None:
    job = a_job()
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store.jobs.attempted(job.id, attempts=1, in_hand=True)
        await store.jobs.finish(job.id, drawn(job))
        pictures = await store.jobs.pictures(job.id)
        assert [picture.seed for picture in pictures] == [2**32 - 1, 0]
        assert [(picture.bucket, picture.guided_bucket) for picture in pictures] == [(4, 2)] * 2
        assert [waiting.id for waiting in await store.jobs.undelivered()] == [job.id]
        assert await store.jobs.unfinished() == []
        await store.jobs.delivered(job.id)
        assert await store.jobs.undelivered() == []


@pytest.mark.parametrize("explicit", [True, False, None])
async def test_a_safety_checks_verdict_is_kept(path: Path, explicit: bool | None) -> None:
    job = a_job()
    finished = drawn(job)
    pictures = tuple(replace(picture, explicit=explicit) for picture in finished.pictures)
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, replace(finished, pictures=pictures))
        assert {picture.explicit for picture in await store.jobs.pictures(job.id)} == {explicit}


async def test_pictures_and_the_end_of_their_job_are_one_transaction(path: Path) -> None:
    job, stranger = a_job(), a_job()
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        assert not await store.jobs.finish(stranger.id, drawn(stranger))
        finished = drawn(job)
        with pytest.raises(sqlite3.Error):
            await store.jobs.finish(job.id, replace(finished, pictures=(replace(finished.pictures[0], bytes="x"),)))  # type: ignore[arg-type]
        again = await store.jobs.get(job.id)
        assert again is not None
        assert again.state is JobState.QUEUED


async def test_a_second_attempt_replaces_the_pictures_of_the_first(path: Path) -> None:
    job = a_job()
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, drawn(job))
        await store.jobs.finish(job.id, drawn(job))
        assert len(await store.jobs.pictures(job.id)) == 2
        assert await store.jobs.unwanted() == []


async def test_history_shows_a_persons_own_drawn_orders_newest_first(path: Path) -> None:
    jobs = [a_job(created_at=float(when), user_id=user) for when, user in ((1, 7), (2, 8), (3, 7), (4, 7))]
    async with open_store(path, migrations=MIGRATIONS) as store:
        for job in jobs:
            await store.jobs.add(job)
        for job in jobs[:3]:
            await store.jobs.finish(job.id, drawn(job))
        assert [job.id for job in await store.jobs.history(7, limit=10)] == [jobs[2].id, jobs[0].id]
        assert [job.id for job in await store.jobs.history(7, limit=10, offset=1)] == [jobs[0].id]


@pytest.mark.parametrize("search", ["красное", "ЯБЛОКО", "strasse", "ÉTÉ"])
async def test_history_is_searched_in_any_alphabet_in_small_letters_and_capitals(path: Path, search: str) -> None:
    job = a_job()
    job = replace(job, request=replace(job.request, prompt="Красное яблоко, Straße, été"))
    async with open_store(path, migrations=MIGRATIONS) as store:
        for each in (job, a_job()):
            await store.jobs.add(each)
            await store.jobs.finish(each.id, drawn(each))
        assert [found.id for found in await store.jobs.history(job.user_id, limit=10, search=search)] == [job.id]


async def test_a_deleted_job_leaves_nothing_and_its_rerolls_stay(path: Path) -> None:
    job = a_job()
    reroll = a_job(parent_id=job.id, origin=Origin.REROLL)
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store.jobs.add(reroll)
        await store.jobs.finish(job.id, drawn(job))
        await store.jobs.delete(job.id)
        assert await store.jobs.unwanted() == [picture_id(job.id, 0), picture_id(job.id, 1)]
        assert await store.jobs.get(job.id) is None
        assert await store.jobs.picture_ids() == set()
        left = await store.jobs.get(reroll.id)
        assert left is not None
        assert left.parent_id is None


@pytest.mark.parametrize("settled", [False, True])
async def test_what_was_deleted_is_to_be_read_in_no_file(path: Path, settled: bool) -> None:
    """Neither in the journal nor, where it had come there before, in the database itself."""
    secret = "a fox that nobody may know of"
    job = a_job(request=replace(a_job().request, prompt=secret))
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        if settled:
            await store._database.wipe()
        assert any(secret.encode() in file.read_bytes() for file in path.parent.iterdir())
        await store.jobs.delete(job.id)
        assert not [file.name for file in path.parent.iterdir() if secret.encode() in file.read_bytes()]


async def test_orders_are_deleted_while_others_are_read(path: Path) -> None:
    """A statement that is open keeps the write-ahead log from being emptied."""
    stays, *jobs = (a_job() for _ in range(21))
    async with open_store(path, migrations=MIGRATIONS) as store:
        for job in (stays, *jobs):
            await store.jobs.add(job)
        deleting = asyncio.gather(*(store.jobs.delete(job.id) for job in jobs))

        async def read() -> None:
            while not deleting.done():
                assert await store.jobs.get(stays.id) is not None

        await asyncio.gather(deleting, *(read() for _ in range(5)))
        assert [await store.jobs.get(job.id) for job in jobs] == [None] * len(jobs)


async def test_whoever_else_reads_the_database_keeps_nothing_from_being_deleted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = a_job()
    async with open_store(path, migrations=MIGRATIONS) as store:
        await store.jobs.add(job)
        await store._database.fetch_all("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN")
            assert other.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
            await store.jobs.delete(job.id)
        assert await store.jobs.get(job.id) is None
    assert "may still be readable" in caplog.text


async def test_small_facts_are_kept(path: Path) -> None:
    async with open_store(path, migrations=MIGRATIONS) as store:
        assert await store.remembered("commands") is None
        await store.remember("commands", "a")
        await store.remember("commands", "b")
    async with open_store(path, migrations=MIGRATIONS) as store:
        assert await store.remembered("commands") == "b"


async def test_a_second_bot_on_the_same_database_is_refused(path: Path) -> None:
    async with open_store(path, migrations=MIGRATIONS):
        with pytest.raises(DatabaseError, match="Another bot is using"):
            await open_and_close(path)


async def test_a_killed_bot_leaves_no_lock_behind(path: Path) -> None:
    holder = (
        "import asyncio, sys; from pathlib import Path; from bot.store import open_store\n"
        "async def hold():\n"
        "    async with open_store(Path(sys.argv[1]), migrations=Path(sys.argv[2])): print('held', flush=True); "
        "await asyncio.sleep(600)\n"
        "asyncio.run(hold())"
    )
    command = [sys.executable, "-c", holder, str(path), str(MIGRATIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(DatabaseError):
            await open_and_close(path)
        child.kill()
    await open_and_close(path)


async def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    await open_and_close(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseError, match="newer version"):
        await open_and_close(path)


async def test_a_data_folder_that_is_a_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(DatabaseError, match="cannot be written"):
        await open_and_close(tmp_path / "data" / "bot.sqlite3")


async def test_a_damaged_database_is_refused_with_the_reason(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("this is no database, and long enough to be taken for the beginning of one" * 100)
    with pytest.raises(DatabaseError, match=r"cannot be used .*not a database.* bot\.sqlite3-wal and bot\.sqlite3-shm"):
        await open_and_close(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DatabaseError, match="cannot be used"):
        await open_and_close(path)


async def test_a_folder_whose_name_says_locked_is_not_taken_for_another_bots(tmp_path: Path) -> None:
    (tmp_path / "locked").write_text("not a folder")
    with pytest.raises(DatabaseError, match="cannot be written"):
        await open_and_close(tmp_path / "locked" / "bot.sqlite3")


async def test_half_a_migration_leaves_nothing(path: Path, tmp_path: Path) -> None:
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / "0001_first.sql").write_text("CREATE TABLE first (id INTEGER);")
    (migrations / "0002_broken.sql").write_text("CREATE TABLE second (id INTEGER);\nCREATE TABLE second (id INTEGER);")
    with pytest.raises(DatabaseError, match=r"0002_broken\.sql"):
        await open_and_close(path, migrations)
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert tables == {"first"}
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


async def test_pictures_from_before_there_were_two_buckets_are_drawn_again_as_they_were(
    path: Path, tmp_path: Path
) -> None:
    before = tmp_path / "migrations"
    before.mkdir()
    for file in sorted(MIGRATIONS.glob("000[12]_*.sql")):
        shutil.copy(file, before)
    path.parent.mkdir()
    await open_and_close(path, before)
    with sqlite3.connect(path) as connection:
        for job_id, guidance in (("guided", 1.5), ("unguided", 1.0)):
            job = to_row(a_job(id=job_id, request=replace(a_job().request, guidance=guidance)))
            del job["guided_bucket"], job["attempts"], job["variation_seed"], job["variation_strength"]
            connection.execute(
                f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})", tuple(job.values())
            )
            connection.execute(
                "INSERT INTO pictures (id, job_id, position, seed, width, height, bucket, pixels_sha256, bytes)"
                " VALUES (?, ?, 0, 7, 64, 64, 4, '', 1)",
                (job_id, job_id),
            )
    async with open_store(path, migrations=MIGRATIONS) as store:
        for job_id, guided_bucket, asked in (("guided", 4, 4), ("unguided", 0, None)):
            [picture] = await store.jobs.pictures(job_id)
            restored = await store.jobs.get(job_id)
            assert restored is not None
            assert (picture.bucket, picture.guided_bucket) == (4, guided_bucket)
            assert restored.request.guided_bucket == asked
            assert (restored.request.variation, picture.variation_seed) == (None, None)


async def test_orders_from_before_brackets_meant_anything_are_drawn_again_as_they_were(
    path: Path, tmp_path: Path
) -> None:
    words, negative = r"a (red:1.3) \ apple", "[blur]"
    job = to_row(a_job(request=replace(a_job().request, prompt=words, negative=negative)))
    await open_and_close(path, up_to(tmp_path / "older", 8))
    with sqlite3.connect(path) as connection:
        connection.execute(
            f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})", tuple(job.values())
        )
    async with open_store(path, migrations=MIGRATIONS) as store:
        restored = await store.jobs.get(job["id"])
        assert restored is not None
        await store.jobs.finish(job["id"], drawn(restored))
        for search in ("a (red", r"a \(RED"):
            assert len(await store.jobs.history(restored.user_id, limit=10, search=search)) == 1
    assert read_weights(restored.request.prompt).text == words
    assert read_weights(restored.request.negative).text == negative


def up_to(folder: Path, number: int) -> Path:
    """The migrations that an older version of the bot has."""
    folder.mkdir()
    for file in MIGRATIONS.glob("*.sql"):
        if int(file.name[:4]) <= number:
            shutil.copy(file, folder)
    return folder


async def test_an_upgrade_can_be_undone(path: Path, tmp_path: Path) -> None:
    older, newer = up_to(tmp_path / "older", 3), up_to(tmp_path / "newer", 4)
    await open_and_close(path, older)
    assert list(path.parent.glob("*.before-*")) == []
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO remembered VALUES ('commands', 'a')")
    await open_and_close(path, newer)
    copy = path.with_name("bot.sqlite3.before-0004")
    with pytest.raises(DatabaseError, match=f"{copy} is a copy from before the upgrade"):
        await open_and_close(path, older)
    for name in ("bot.sqlite3-wal", "bot.sqlite3-shm"):
        path.with_name(name).unlink(missing_ok=True)
    copy.replace(path)
    async with open_store(path, migrations=older) as store:
        assert await store.remembered("commands") == "a"


async def test_only_the_newest_copy_is_kept(path: Path, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        await open_and_close(path, up_to(tmp_path / str(number), number))
    assert [copy.name for copy in path.parent.glob("*.before-*")] == ["bot.sqlite3.before-0005"]
    with pytest.raises(DatabaseError, match=r"another folder\.$"):  # the copy is too new for it
        await open_and_close(path, tmp_path / "3")


async def open_and_close(path: Path, migrations: Path = MIGRATIONS) -> None:
    async with open_store(path, migrations=migrations) as store:
        assert isinstance(store, Store)
