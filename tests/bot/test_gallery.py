"""The pictures' folder: what a killed bot left there goes, what may be somebody's stays."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from bot import app
from bot.delivery.gallery import MOST_LEFT, Gallery
from bot.settings import ROOT, Settings
from bot.store import open_store
from tests.bot.studio import until


def a_file(folder: Path, name: str = "", *, age_s: float = 0.0) -> Path:
    """A file of this name, a picture's unless said."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{uuid.uuid4()}.png")
    path.write_bytes(b"pixels")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


async def sweep(settings: Settings) -> None:
    """What happens to the folder at a start."""
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await app.remove_strangers(settings, store, set())


async def test_what_a_killed_bot_left_is_removed_and_other_peoples_files_are_not(settings: Settings) -> None:
    await sweep(settings)
    folder = settings.pictures_dir
    left = [a_file(folder), a_file(folder, f".{uuid.uuid4()}.png.0123abcd.part"), a_file(folder, ".0123abcd.part")]
    others = [a_file(folder, name) for name in ("holiday.png", ".browser.part", "notes.txt")]
    await sweep(settings)
    assert [path.exists() for path in left] == [False] * 3
    assert [path.exists() for path in others] == [True] * 3


async def test_what_is_gone_once_it_is_looked_at_keeps_nothing_else_from_going(settings: Settings) -> None:
    await sweep(settings)
    folder = settings.pictures_dir
    for _ in range(2):
        left = a_file(folder, age_s=8 * app.DAY_S)
        (folder / f"{uuid.uuid4()}.png").symlink_to("nowhere")
        assert await Gallery(folder).remove_older(time.time() - 7 * app.DAY_S, but=set()) == 1
        assert not left.exists()
        left = a_file(folder)
        await sweep(settings)
        assert not left.exists()


async def test_what_cannot_be_removed_keeps_nothing_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "DAY_S", 0.05)
    in_the_way = settings.pictures_dir / f"{uuid.uuid4()}.png"
    in_the_way.mkdir(parents=True)
    daily = asyncio.create_task(app.remove_old(replace(settings, keep_pictures_days=1.0), set()))
    await until(lambda: "cannot be deleted" in caplog.text, lambda: caplog.text)
    old = a_file(settings.pictures_dir, age_s=1.0)
    await until(lambda: not old.exists(), lambda: "the old picture is still there")
    daily.cancel()


async def test_pictures_outlive_a_database_that_was_moved_away(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    path = a_file(settings.pictures_dir, age_s=60)
    for _ in range(2):
        await sweep(settings)
    assert path.exists()
    assert f"1 pictures in {settings.pictures_dir} are unknown to {settings.database_path}" in caplog.text


async def test_pictures_outlive_an_older_copy_of_their_database(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await sweep(settings)
    paths = [a_file(settings.pictures_dir) for _ in range(MOST_LEFT + 1)]
    await sweep(settings)
    assert all(path.exists() for path in paths)
    assert "put that one back" in caplog.text


async def test_pictures_are_kept_as_long_as_is_set_and_copies_of_the_database_a_fortnight(settings: Settings) -> None:
    old, example = (a_file(settings.pictures_dir, age_s=8 * app.DAY_S) for _ in range(2))
    young, foreign = (a_file(settings.pictures_dir, name, age_s=6 * app.DAY_S) for name in ("", "holiday.png"))
    copies = [settings.database_path.with_name(f"bot.sqlite3.before-000{number}") for number in (1, 2)]
    for copy, days in zip(copies, (13, 15), strict=True):
        copy.touch()
        os.utime(copy, (time.time() - days * app.DAY_S,) * 2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(app.remove_old(settings, {example.stem}), 0.5)
    assert old.exists()
    assert [copy.exists() for copy in copies] == [True, False]
    daily = asyncio.create_task(app.remove_old(replace(settings, keep_pictures_days=7.0), {example.stem}))
    await until(lambda: not old.exists(), lambda: "the old picture is still there")
    daily.cancel()
    assert all(path.exists() for path in (example, young, foreign))
