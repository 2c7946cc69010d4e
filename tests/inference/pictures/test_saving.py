"""Saving pictures: whole or not at all, under their id, with a hash of what they show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import DiskUnwritable, InferenceError
from inference.pictures.recipe import Recipe, read_pixels, read_recipe
from inference.pictures.saving import PictureWriter
from tests.inference.batches import row

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
RECIPE = Recipe(
    prompt="a red apple",
    negative="",
    model="tiny",
    weights="",
    adapters=(),
    seed=7,
    steps=4,
    guidance=8.0,
    width=32,
    height=24,
    bucket=4,
    guided_bucket=2,
    precision="float32",
    device="cpu",
    threads=1,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PictureWriter]:
    with PictureWriter(tmp_path / "data" / "pictures") as writer:
        yield writer


def test_a_picture_is_saved_under_its_id_with_recipe_and_hash(writer: PictureWriter) -> None:
    picture = writer.write(row(3), PIXELS, RECIPE).result(timeout=10)
    path = writer.path(picture.id)
    assert (picture.id, picture.index, picture.seed) == (row(3).picture_id, 3, 7)
    assert (picture.width, picture.height) == (32, 24)
    assert (picture.bucket, picture.guided_bucket) == (4, 2)
    assert picture.bytes == path.stat().st_size
    assert picture.pixels_sha256 == hashlib.sha256(PIXELS.tobytes()).hexdigest()
    assert read_pixels(path) == PIXELS.tobytes()
    assert read_recipe(path) == RECIPE


def test_the_hash_follows_the_pixels_and_not_the_recipe(writer: PictureWriter) -> None:
    one = writer.write(row(0), PIXELS, RECIPE)
    two = writer.write(row(1), PIXELS, replace(RECIPE, prompt="something else"))
    other = writer.write(row(2), PIXELS[::-1].copy(), RECIPE)
    hashes = [future.result(timeout=10).pixels_sha256 for future in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_second_attempt_replaces_the_first(writer: PictureWriter) -> None:
    writer.write(row(0), PIXELS, RECIPE).result(timeout=10)
    picture = writer.write(row(0), PIXELS[::-1].copy(), RECIPE).result(timeout=10)
    assert read_pixels(writer.path(picture.id)) == PIXELS[::-1].tobytes()
    assert [path.name for path in writer.path(picture.id).parent.iterdir()] == [f"{picture.id}.png"]


def test_closing_waits_for_what_is_being_written(tmp_path: Path) -> None:
    with PictureWriter(tmp_path) as writer:
        futures = [writer.write(row(index), PIXELS, RECIPE) for index in range(20)]
    assert all(future.done() for future in futures)
    assert len(list(tmp_path.glob("*.png"))) == 20


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InferenceError) as refusal:
        PictureWriter(tmp_path / "file" / "pictures")
    assert isinstance(refusal.value.failure, DiskUnwritable)


def test_a_disk_that_stops_taking_pictures_fails_that_picture_in_words(writer: PictureWriter) -> None:
    in_the_way = writer.path(row(0).picture_id)
    in_the_way.mkdir()
    with pytest.raises(InferenceError) as refusal:
        writer.write(row(0), PIXELS, RECIPE).result(timeout=10)
    assert isinstance(refusal.value.failure, DiskUnwritable)
    assert [path.name for path in in_the_way.parent.iterdir()] == [in_the_way.name], "no part of a file is left"
    assert writer.write(row(1), PIXELS, RECIPE).result(timeout=10).index == 1
