"""What the tests of the bot share: a catalogue without weights, a job, and a look at every request to Discord."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bot.settings import Settings
from bot.store import Job, JobState, Origin, Place
from inference.catalog import Catalog
from inference.contract import Finished, ImageRequest, Picture, picture_id
from tests.bot.studio import Studio, open_studio
from tests.discord_api import schema as discord_schema
from tests.hub import hub

__all__ = ["hub"]

CATALOG = """
default = "quick"

[models.quick]
title = "Quick"
family = "emoji"
kind = "native"
weights = { path = "quick" }
size = [64, 64]
sides = [32, 128]
harmless = true
licence = "MIT"
examples = ["a fox"]

[models.guided]
title = "With guidance"
family = "sd15"
kind = "lora"
weights = { path = "guided" }
lcm_lora = { path = "lora.safetensors" }
size = [64, 64]
sides = [32, 128]

[models.absent]
title = "Not here"
family = "emoji"
kind = "native"
weights = { path = "absent" }
size = [64, 64]
sides = [32, 128]

[adapters.ink]
title = "Ink"
family = "sd15"
weights = { path = "lora.safetensors" }
triggers = ["ink drawing", "bold lines"]
"""


@cache
def a_catalog() -> Catalog:
    """Models that nothing is ever drawn with; the first two count as being on disk."""
    folder = Path(tempfile.mkdtemp(prefix="catalogue-"))
    atexit.register(shutil.rmtree, folder)
    for file in ("quick/model_index.json", "guided/model_index.json", "lora.safetensors", "models.toml"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(CATALOG, encoding="utf-8")
    return Catalog.load(folder / "models.toml")


@pytest.fixture
def catalog() -> Catalog:
    return a_catalog()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(discord_token="token", data_dir=tmp_path / "data", catalog=tmp_path / "models.toml")


@pytest.fixture
async def studio(settings: Settings, catalog: Catalog) -> AsyncIterator[Studio]:
    """A running bot; at the end, everything that it sent must fit Discord's own description."""
    async with open_studio(settings, catalog) as studio:
        yield studio
        assert discord_schema.problems(studio.env.http_requests) == []


def a_job(**changes: Any) -> Job:
    """A job as it is before anything happened to it; ``prompt``, ``count`` and ``model`` go to its request."""
    request = ImageRequest(
        prompt=changes.pop("prompt", "a red apple"),
        model=changes.pop("model", "quick"),
        seed=7,
        count=changes.pop("count", 1),
        steps=4,
        guidance=8.0,
        width=64,
        height=64,
    )
    place = Place(
        guild_id=1,
        channel_id=2,
        message_id=None,
        application_id=3,
        token="token",
        token_expires_at=time.time() + 900,
        attachment_size_limit=10 * 2**20,
    )
    job = Job(
        id=str(uuid.uuid4()),
        state=JobState.QUEUED,
        origin=Origin.IMAGINE,
        parent_id=None,
        user_id=5,
        place=place,
        request=request,
        created_at=time.time(),
    )
    return replace(job, **changes)


def finished(job: Job) -> Finished:
    """How ``job`` ends once its pictures are drawn."""
    pictures = tuple(
        Picture(
            id=picture_id(job.id, index),
            index=index,
            seed=job.request.picture_seed(index),
            width=128,
            height=128,
            bucket=4,
            guided_bucket=2,
            pixels_sha256=f"{index:064}",
            bytes=1000,
            variation_seed=variation.seed if (variation := job.request.picture_variation(index)) else None,
        )
        for index in range(job.request.count)
    )
    return Finished(pictures=pictures, seconds=0.5)
