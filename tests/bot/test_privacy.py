"""``/privacy``: a person takes everything with them or has it forgotten, and nobody else's is touched."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from simcord.results import InteractionResult

from bot import app
from bot.delivery import delivery
from bot.delivery.gallery import MOST_LEFT, Gallery
from bot.features import export, privacy
from bot.rules import Scope
from bot.settings import ROOT, Settings
from bot.store import JobState, Origin, Person, StoredPicture, open_store
from bot.store.people import KeptSeed
from bot.ui.cards import layout
from inference.contract import picture_id
from tests.bot.conftest import a_job, finished
from tests.bot.painter import pixels
from tests.bot.studio import Studio, labels_of, said, text_of, until


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PACE_S", 0.0)


async def drawn(studio: Studio, who: Any, *, prompt: str, seed: int, count: int = 1) -> None:
    """An order of somebody's, drawn and shown."""
    index = len(studio.cards())
    await who.slash(studio.channel, "imagine", prompt=prompt, seed=seed, count=count)
    await studio.pictures(index=index, count=count)
    await studio.all_delivered()


async def preferred(studio: Studio, who: Any) -> None:
    """Something in every other table."""
    await studio.store.seeds.save(who.id, "the owl's", 77)
    await studio.store.preferences.lock_seed(who.id, 5)
    await studio.store.preferences.choose_model(Scope.USER, who.id, "guided", chosen_by=who.id)


async def zips_of(result: Any) -> list[zipfile.ZipFile]:
    """What was handed out, part by part."""
    messages = {message.id: message for message in (result.response, *result.followups) if message is not None}
    assert all(message.ephemeral for message in messages.values())
    files = [await attachment.read() for message in messages.values() for attachment in message.attachments]
    return [zipfile.ZipFile(io.BytesIO(file)) for file in files]


def files_of(studio: Studio) -> set[str]:
    return {path.stem for path in studio.settings.pictures_dir.glob("*.png")}


async def test_an_export_holds_every_picture_and_everything_known(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="An owl, tired / happy", seed=7, count=2)
    await drawn(studio, studio.ann, prompt="An owl, tired / happy", seed=7)
    await preferred(studio, studio.ann)
    result = await studio.ann.slash(studio.channel, "privacy export")
    [archive] = await zips_of(result)
    day = export._time((await studio.jobs())[0].created_at)[:10]
    names = [f"{day}-7-An-owl-tired-happy.png", f"{day}-8-An-owl-tired-happy.png", f"{day}-7-An-owl-tired-happy-2.png"]
    assert archive.namelist() == ["data.json", *names]
    for name, seed in zip(names, (7, 8, 7), strict=True):
        assert Image.open(archive.open(name)).convert("RGB").tobytes() == pixels(seed, 64, 64)
    data = json.loads(archive.read("data.json"))
    assert data["user_id"] == str(studio.ann.id)
    assert data["locked_seed"] == 5
    assert [seed["name"] for seed in data["seed_book"]] == ["the owl's"]
    assert [choice["model"] for choice in data["chosen_models"]] == ["guided"]
    assert [order["prompt"] for order in data["orders"]] == ["An owl, tired / happy"] * 2
    assert [picture["file"] for order in data["orders"] for picture in order["pictures"]] == names


async def test_an_export_tells_no_tokens_and_nothing_of_others(studio: Studio) -> None:
    await drawn(studio, studio.ben, prompt="a secret of ben's", seed=1)
    await studio.ann.click(studio.cards()[0], label="Same seed")
    await studio.pictures(index=1)
    await studio.store.seeds.save(studio.ben.id, "ben's own", 3)
    [archive] = await zips_of(await studio.ann.slash(studio.channel, "privacy export"))
    [theirs, own] = await studio.jobs()
    raw = archive.read("data.json").decode()
    assert own.id in raw
    for secret in (theirs.id, str(studio.ben.id), "ben's own", own.place.token, theirs.place.token):
        assert secret is not None
        assert secret not in raw
    assert len(archive.namelist()) == 2


async def test_a_large_export_comes_in_parts_that_fit(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "REQUEST_LIMIT", 40_000)
    monkeypatch.setattr(privacy, "MOST_PARTS", 2)
    await drawn(studio, studio.ann, prompt="an owl", seed=1, count=4)
    for path in studio.settings.pictures_dir.glob("*.png"):
        path.write_bytes(path.read_bytes() + bytes(20_000))
    result = await studio.ann.slash(studio.channel, "privacy export")
    rest = await studio.ann.slash(studio.channel, "privacy export", part=3)
    assert "Part 2 of 4" in said(result)
    assert "export part:3" in said(result)
    assert "export part" not in said(rest)
    archives = [*await zips_of(result), *await zips_of(rest)]
    assert [len(archive.namelist()) for archive in archives] == [2, 1, 1, 1]
    assert all(archive.fp.seek(0, io.SEEK_END) <= 40_000 for archive in archives if archive.fp)
    beyond = await studio.ann.slash(studio.channel, "privacy export", part=5)
    assert "there is no part 5" in said(beyond)
    assert studio.env.errors


@pytest.mark.parametrize("command", ["privacy export", "privacy delete"])
async def test_somebody_unknown_is_told_so(studio: Studio, command: str) -> None:
    await drawn(studio, studio.ben, prompt="an owl", seed=1)
    result = await studio.ann.slash(studio.channel, command)
    assert result.ephemeral
    assert "no data about you" in said(result)
    assert studio.env.errors


def _person(**changes: Any) -> Person:
    job = a_job(user_id=5, **changes)
    picture = StoredPicture(
        id=picture_id(job.id, 0),
        job_id=job.id,
        index=0,
        seed=7,
        width=8,
        height=8,
        bucket=1,
        guided_bucket=0,
        pixels_sha256="",
        bytes=1,
    )
    seeds = (KeptSeed(name="a", seed=1, saved_at=0.0),)
    return Person(user_id=5, jobs=(job,), pictures=(picture,), seeds=seeds, choices=(), locked_seed=None)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("../../etc/passwd", "etc-passwd"), ("红苹果 🍎", "红苹果"), ("🍎", "picture"), ("x" * 500, "x" * 40)],
)
def test_no_prompt_makes_a_file_name_that_a_system_refuses(tmp_path: Path, prompt: str, words: str) -> None:
    person = _person(prompt=prompt)
    Image.new("RGB", (8, 8)).save(tmp_path / f"{person.pictures[0].id}.png")
    [[_data, item]] = export.plan(person, Gallery(tmp_path), limit=100_000)
    assert item.name.partition("-7-")[2] == f"{words}.png"


def test_a_picture_too_large_for_any_part_comes_in_another_form(tmp_path: Path) -> None:
    person = _person()
    Image.effect_noise((256, 256), 90).save(tmp_path / f"{person.pictures[0].id}.png")
    parts = export.plan(person, Gallery(tmp_path), limit=30_000)
    file = io.BytesIO()
    export.write(parts[-1], file, limit=30_000)
    assert len(file.getvalue()) <= 30_000
    [name] = zipfile.ZipFile(file).namelist()
    assert name.endswith(".webp")


def test_what_was_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    person = _person()
    path = tmp_path / f"{person.pictures[0].id}.png"
    Image.new("RGB", (8, 8)).save(path)
    [part] = export.plan(person, Gallery(tmp_path), limit=100_000)
    path.unlink()
    file = io.BytesIO()
    export.write(part, file, limit=100_000)
    assert zipfile.ZipFile(file).namelist() == ["data.json"]
    [[again]] = export.plan(person, Gallery(tmp_path), limit=100_000)
    assert json.loads(again.content)["orders"][0]["pictures"][0]["file"] is None


def test_very_many_orders_are_told_in_several_documents(tmp_path: Path) -> None:
    jobs = tuple(a_job(prompt="x" * 900) for _ in range(40))
    person = Person(user_id=5, jobs=jobs, pictures=(), seeds=(), choices=(), locked_seed=None)
    items = [item for part in export.plan(person, Gallery(tmp_path), limit=30_000) for item in part]
    assert [item.name for item in items][:2] == ["data.json", "data-2.json"]
    told = [order["id"] for item in items for order in json.loads(item.content)["orders"]]
    assert told == [job.id for job in jobs]
    assert max(item.size for item in items) < 30_000


async def asked(studio: Studio, who: Any) -> Any:
    """The question whether everything is to be deleted."""
    result = await who.slash(studio.channel, "privacy delete")
    assert result.ephemeral
    assert labels_of(result.response) == ["Delete everything", "Keep everything"]
    return result.response


@pytest.mark.parametrize("restarted", [False, True])
async def test_everything_of_a_person_goes_and_nothing_of_others(studio: Studio, restarted: bool) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1, count=2)
    await drawn(studio, studio.ben, prompt="a fox", seed=9)
    await studio.ben.click(studio.cards()[0], label="Same seed")
    await studio.pictures(index=2, count=2)
    await studio.all_delivered()
    for who in (studio.ann, studio.ben):
        await preferred(studio, who)
    await studio.store.preferences.choose_model(Scope.SERVER, studio.ann.guild.id, "guided", chosen_by=studio.ann.id)
    question = await asked(studio, studio.ann)
    for words in ("orders: 1", "pictures: 2", "seeds in your seed book: 1", "your locked seed, 5", "model, guided"):
        assert words in text_of(question)
    if restarted:
        await studio.restart()
    result = await studio.ann.click(question, label="Delete everything")
    assert "Deleted:" in text_of(result.response)
    assert labels_of(result.response) == []
    await until(lambda: len(studio.cards()) == 2, studio._what_is_there)
    assert not await studio.store.people.get(studio.ann.id)
    jobs = await studio.jobs()
    assert [(job.user_id, job.origin) for job in jobs] == [
        (studio.ben.id, Origin.IMAGINE),
        (studio.ben.id, Origin.SAME_SEED),
    ]
    kept = await studio.store.people.get(studio.ben.id)
    assert files_of(studio) == {picture.id for picture in kept.pictures}
    assert (kept.model, kept.locked_seed, len(kept.seeds)) == ("guided", 5, 1)
    preferences = studio.store.preferences
    assert preferences.locked_seed(studio.ann.id) is preferences.model(Scope.USER, studio.ann.id) is None
    assert preferences.model(Scope.SERVER, studio.ann.guild.id) == "guided"


async def test_open_orders_are_cancelled(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ben.slash(studio.channel, "imagine", prompt="a fox", seed=3)
    await studio.card(saying="Next in line", index=1)
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.card(saying="Number 2", index=2)
    question = await asked(studio, studio.ann)
    assert "unfinished and will not be drawn: 2" in text_of(question)
    await studio.ann.click(question, label="Delete everything")
    [picture] = await studio.pictures(index=0)
    assert picture.tobytes() == pixels(3, 64, 64)
    await until(lambda: len(studio.cards()) == 1, studio._what_is_there)
    assert [job.user_id for job in await studio.jobs()] == [studio.ben.id]
    assert len(files_of(studio)) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_nothing_is_deleted_by_keeping(studio: Studio, restarted: bool) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    question = await asked(studio, studio.ann)
    if restarted:
        await studio.restart()
    result = await studio.ann.click(question, label="Keep everything")
    assert "Nothing was deleted" in text_of(result.response)
    assert labels_of(result.response) == []
    assert len(await studio.jobs()) == len(files_of(studio)) == 1


async def test_nobody_answers_for_somebody_else(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    channel: Any = studio.bot.get_channel(studio.channel.id)
    buttons = [privacy.Forget(str(studio.ann.id)), privacy.Keep(str(studio.ann.id))]
    await channel.send(view=layout(0, ["?"], rows=[buttons]))
    for label in ("Delete everything", "Keep everything"):
        refused = await studio.ben.click(studio.cards()[-1], label=label)
        assert refused.ephemeral
        assert "asked of somebody else" in said(refused)
    assert len(await studio.jobs()) == len(files_of(studio)) == 1
    assert labels_of(studio.cards()[-1]) == ["Delete everything", "Keep everything"]


async def test_an_answer_given_twice_does_no_harm(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    question, again = await asked(studio, studio.ann), await asked(studio, studio.ann)
    await studio.ann.click(question, label="Delete everything")
    result = await studio.ann.click(again, label="Delete everything")
    assert "nothing left to delete" in text_of(result.response)


async def test_cards_that_discord_keeps_stop_nothing(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    await drawn(studio, studio.ann, prompt="a fox", seed=2)
    for path in ("/webhooks/*", "/channels/*/messages/*"):
        studio.env.inject_error("DELETE", path, status=403, code=50001, message="Missing Access")
    await studio.ann.click(await asked(studio, studio.ann), label="Delete everything")
    await until(lambda: len(studio.cards()) == 1, studio._what_is_there)
    assert await studio.jobs() == []


async def test_cards_are_counted_as_people_see_them_and_those_out_of_reach_are_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.ann.slash(studio.channel, "compare", prompt="a fox", models="quick, guided")
    await studio.pictures(count=2)
    await studio.all_delivered()
    monkeypatch.setattr(studio.bot, "get_guild", lambda _guild_id: None)
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET token_expires_at = 0")
    result = await studio.ann.click(await asked(studio, studio.ann), label="Delete everything")
    assert "removed from chat: 1" in text_of(result.response)
    assert "because I am only a guest there: 1" in text_of(result.response)
    await until(lambda: len(studio.cards()) == 1, studio._what_is_there)
    await studio.ann.click(studio.cards()[0], label="Delete")
    assert studio.cards() == []


async def test_a_deletion_that_fails_half_way_leaves_everything(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    await preferred(studio, studio.ann)
    before = await studio.store.people.get(studio.ann.id)
    async with studio.store._database.transaction() as connection:
        await connection.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON choices BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    with pytest.raises(sqlite3.IntegrityError):
        await studio.store.people.forget(studio.ann.id)
    assert await studio.store.people.get(studio.ann.id) == before
    assert [job.state for job in before.jobs] == [JobState.DONE]


@pytest.mark.parametrize("how", ["forgotten", "deleted"])
async def test_a_bot_killed_between_rows_and_files_removes_any_number_of_them_at_its_start(
    settings: Settings, how: str
) -> None:
    job, folder = a_job(count=MOST_LEFT + 1), settings.pictures_dir
    folder.mkdir(parents=True)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, finished(job))
        for index in range(job.request.count):
            (folder / f"{picture_id(job.id, index)}.png").touch()
        await (store.people.forget(job.user_id) if how == "forgotten" else store.jobs.delete(job.id))
    others = [folder / f"{uuid.uuid4()}.png" for _ in range(MOST_LEFT + 1)]
    for path in others:
        path.touch()
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await app.remove_strangers(settings, store, set())
        assert await store.jobs.unwanted() == []
    assert set(folder.iterdir()) == set(others), "those of another database stay"


async def test_a_picture_that_cannot_be_deleted_is_tried_again_at_the_next_start(settings: Settings) -> None:
    job = a_job()
    path = settings.pictures_dir / f"{picture_id(job.id, 0)}.png"
    (path / "inside").mkdir(parents=True)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, finished(job))
        await store.jobs.delete(job.id)
        await app.remove_strangers(settings, store, set())
        assert await store.jobs.unwanted() == [path.stem]
        shutil.rmtree(path)
        path.touch()
        await Gallery(settings.pictures_dir).remove_unwanted(store.jobs)
        assert await store.jobs.unwanted() == []
    assert not path.exists()


async def test_a_deletion_that_fails_takes_no_picture_with_it(settings: Settings) -> None:
    job = a_job()
    path = settings.pictures_dir / f"{picture_id(job.id, 0)}.png"
    path.parent.mkdir(parents=True)
    path.touch()
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await store.jobs.add(job)
        await store.jobs.finish(job.id, finished(job))
        with suppress(ZeroDivisionError):
            async with store._database.transaction() as connection:
                await connection.execute("DELETE FROM jobs")
                others = asyncio.create_task(Gallery(settings.pictures_dir).remove_unwanted(store.jobs))
                await asyncio.wait([others], timeout=0.2)
                raise ZeroDivisionError
        await others
        assert await store.jobs.exists(job.id)
    assert path.exists()


async def test_one_export_is_sent_at_a_time(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    backend, parsers = studio.env.backend, studio.bot._connection.parsers
    arrived = parsers["INTERACTION_CREATE"]
    second = backend.new_interaction(2, studio.channel.id, studio.ann.id, studio.channel.guild.id)

    def twice(data: Any) -> None:
        arrived(data)
        arrived({**data, "id": str(second.id), "token": second.token})

    with monkeypatch.context() as line:
        line.setitem(parsers, "INTERACTION_CREATE", twice)
        first = await studio.ann.slash(studio.channel, "privacy export")
    assert len(await zips_of(first)) == 1
    refused = InteractionResult(studio.env, second)
    assert refused.ephemeral
    assert "last export is still on its way" in said(refused)
    assert len(await zips_of(await studio.ann.slash(studio.channel, "privacy export"))) == 1
    assert studio.env.errors


async def test_a_bot_killed_between_rows_and_files_comes_back_without_either(studio: Studio) -> None:
    await drawn(studio, studio.ann, prompt="an owl", seed=1)
    await drawn(studio, studio.ben, prompt="a fox", seed=2)
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing")
    await studio.stop()
    await studio.store.people.forget(studio.ann.id)
    await app.remove_strangers(studio.settings, studio.store, set())
    await studio.restart()
    [job] = await studio.jobs()
    assert job.user_id == studio.ben.id
    assert files_of(studio) == {picture_id(job.id, 0)}
    assert studio.dispatcher.standing() == {}
