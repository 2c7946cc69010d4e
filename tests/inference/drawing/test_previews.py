"""Previews: made where a batch is slow and never faster than is worth it, small, checked, and never in the way."""

from __future__ import annotations

import asyncio
import io
import shutil
import uuid
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.catalog import Catalog, CatalogError
from inference.contract import Finished, ImageRequest, JobEvent, Preview, Progress, Running
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.drawing import previews as previews_module
from inference.drawing.engine import Engine
from inference.drawing.previews import Rhythm, Sketches
from inference.processes.handle import WorkerProcess, WorkerSpec
from tests.checkers import save_classifier
from tests.checkpoints import TinyModels, tiny_vae, vae
from tests.inference import sinners
from tests.inference.batches import batch, row

PREVIEWS = '\n[previews]\nemoji = { path = "taesd" }\n'


@pytest.fixture
def models(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A catalogue whose one family has a tiny autoencoder for previews."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_models.native, folder / "tiny-lcm")
    tiny_vae().save_pretrained(folder / "taesd")
    entry = tiny_models.catalog.read_text(encoding="utf-8").partition("[models.tiny-lora]")[0]
    (folder / "models.toml").write_text(entry + PREVIEWS, encoding="utf-8")
    return folder


def rewrite(models: Path, old: str, new: str) -> None:
    catalog = models / "models.toml"
    assert old in catalog.read_text(encoding="utf-8")
    catalog.write_text(catalog.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch counts as slow, and gets a preview after every step."""
    for name in ("WORTH_S", "EVERY_S"):
        monkeypatch.setattr(previews_module, name, 0.0)
    monkeypatch.setattr(previews_module, "SHARE", 1e9)


def drawn(models: Path, *, checked: bool = False, previews: bool = True) -> tuple[bytes, list[tuple[Preview, ...]]]:
    """The pixels of two pictures, and what was shown after each step but the first."""
    catalog = Catalog.load(models / "models.toml")
    engine = Engine(catalog=catalog, device="cpu", precision="fp32", safety_check=checked, previews=previews)
    heard: list[Progress] = []
    result = engine.draw(batch(row(0), row(1, seed=8), bucket=4, steps=3), heard.append)
    return result.pixels.tobytes(), [progress.previews for progress in heard if progress.steps and progress.step]


def opened(preview: Preview) -> Image.Image:
    picture = Image.open(io.BytesIO(preview.content))
    assert picture.format == "WEBP"
    return picture


# -- when --------------------------------------------------------------------------------------------------------------


def due(steps: int, step_s: float, *, cost_s: float = 0.0) -> list[int]:
    """After which steps there is a preview, where a step takes so long and a preview ``cost_s``."""
    rhythm, now, found = Rhythm(steps), 100.0, []
    assert not rhythm.is_due(0, now)
    for step in range(1, steps + 1):
        now += step_s
        if rhythm.is_due(step, now):
            found.append(step)
            rhythm.made(now, now + cost_s)
            now += cost_s
    return found


@pytest.mark.parametrize(
    ("steps", "step_s", "steps_shown"),
    [
        (4, 0.1, []),
        (4, 0.6, []),
        (4, 1.0, [1]),
        (4, 2.0, [1, 2]),
        (8, 1.0, [1, 3, 5]),
        (4, 10.0, [1, 2, 3]),
        (1, 60.0, []),
        (50, 0.125, [1, 13, 25]),
    ],
)
def test_a_preview_comes_where_two_seconds_are_left_and_one_and_a_half_have_passed(
    steps: int, step_s: float, steps_shown: list[int]
) -> None:
    assert due(steps, step_s) == steps_shown


def test_previews_take_a_tenth_of_the_time_at_most() -> None:
    shown = due(50, 1.0, cost_s=1.0)
    assert 3 <= len(shown) <= 6
    assert min(later - sooner for sooner, later in pairwise(shown)) >= 10


# -- what --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always")
def test_every_row_is_shown_as_it_is_by_then_and_the_padding_is_not(models: Path) -> None:
    _, shown = drawn(models)
    first, second, last = shown
    assert [(preview.index, preview.explicit) for preview in first] == [(0, None), (1, None)]
    assert len({preview.content for preview in (*first, *second)}) == 4
    assert last == ()
    assert opened(first[0]).size == (64, 64)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("width", "height", "size"), [(1024, 768, (256, 192)), (512, 512, (256, 256)), (64, 8, (64, 8))]
)
def test_a_preview_is_small(width: int, height: int, size: tuple[int, int]) -> None:
    sketches = Sketches(batch(width=width, height=height), None, tiny_vae)
    sketches.after(0, None)
    [preview] = sketches.after(1, torch.randn(1, 4, height // 8, width // 8))
    assert opened(preview).size == size


@pytest.mark.usefixtures("always")
def test_a_preview_shows_what_the_whole_picture_shows() -> None:
    """A latent is a small picture: made smaller, it decodes to the same picture, smaller."""
    network = tiny_vae()
    latents = torch.nn.functional.interpolate(torch.randn(1, 4, 4, 4), size=(64, 64), mode="bicubic")
    with torch.inference_mode():
        sketches = Sketches(batch(width=512, height=512), None, lambda: network)
        sketches.after(0, None)
        [preview] = sketches.after(1, latents)
        whole = network.decode(latents).sample[0].permute(1, 2, 0).numpy()
    small = whole.reshape(256, 2, 256, 2, 3).mean((1, 3))
    shown = np.asarray(opened(preview), dtype=np.float32) / 127.5 - 1
    assert np.corrcoef(small.ravel(), shown.ravel())[0, 1] > 0.9


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("explicit", [True, False])
def test_the_models_checker_looks_at_previews_too(models: Path, explicit: bool) -> None:
    rewrite(models, "harmless = true", "")
    rewrite(models, "[previews]", '[safety]\nweights = { path = "classifier" }\n[previews]')
    save_classifier(models / "classifier", bias=20.0 if explicit else -20.0)
    _, shown = drawn(models, checked=True)
    assert {preview.explicit for preview in shown[0]} == {explicit}


@pytest.mark.usefixtures("always")
def test_a_model_with_a_tiny_autoencoder_needs_no_other(models: Path) -> None:
    rewrite(models, PREVIEWS, "")
    assert drawn(models)[1][0] == ()
    rewrite(models, 'kind = "native"\n', 'kind = "native"\nvae = { path = "taesd" }\n')
    assert len(drawn(models)[1][0]) == 2


# -- in nobody's way ---------------------------------------------------------------------------------------------------


def absent(models: Path) -> None:
    shutil.rmtree(models / "taesd")


def damaged(models: Path) -> None:
    weights = models / "taesd" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def large(models: Path) -> None:
    vae().save_pretrained(models / "taesd")


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("sin", [absent, damaged, large], ids=lambda sin: sin.__name__)
def test_what_cannot_be_used_costs_the_previews_and_nothing_else(models: Path, sin: object) -> None:
    assert callable(sin)
    sin(models)
    pixels, shown = drawn(models)
    assert not any(shown)
    assert pixels == drawn(models, previews=False)[0]


@pytest.mark.usefixtures("always")
def test_previews_leave_the_picture_as_it_is(models: Path) -> None:
    pixels, shown = drawn(models)
    assert shown[0]
    assert pixels == drawn(models, previews=False)[0]


@pytest.mark.usefixtures("always")
def test_where_memory_is_short_there_are_no_previews_rather_than_no_picture(models: Path) -> None:
    """What they are decoded with takes the memory that sampling needs, and so it would each time anew."""
    engine = Engine(catalog=Catalog.load(models / "models.toml"), device="cpu", precision="fp32", previews=True)
    previews = engine._tools.previews
    assert previews is not None

    def refuse(*_: object) -> None:
        if previews._loaded:
            raise torch.OutOfMemoryError("CUDA out of memory")

    order, plain = batch(row(0), steps=3), drawn_alone(models)
    engine.draw(order, lambda progress: None)
    (slot,) = [slot for slot in engine._models._shelves._slots.values() if "UNet" in type(slot.network).__name__]
    slot.network.register_forward_pre_hook(refuse)
    for _ in range(2):
        assert engine.draw(replace(order), lambda progress: None).pixels.tobytes() == plain


def drawn_alone(models: Path) -> bytes:
    engine = Engine(catalog=Catalog.load(models / "models.toml"), device="cpu", precision="fp32")
    return engine.draw(batch(row(0), steps=3), lambda progress: None).pixels.tobytes()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('sd9 = { path = "x" }', "not “sd9”"),
        ('emoji = { path = "x.safetensors" }', "must be a folder"),
        ('emoji = "x"', "must be a table"),
    ],
)
def test_the_table_of_previews_is_checked(models: Path, table: str, complaint: str) -> None:
    rewrite(models, 'emoji = { path = "taesd" }', table)
    with pytest.raises(CatalogError, match=rf"\[previews\].*{complaint}"):
        Catalog.load(models / "models.toml")


# -- with a real worker ------------------------------------------------------------------------------------------------


async def test_a_slow_worker_shows_what_becomes_of_the_pictures(models: Path, tmp_path: Path) -> None:
    spec = WorkerSpec(
        catalog_path=models / "models.toml", pictures_dir=tmp_path / "pictures", device="cpu", precision="float32"
    )
    dispatcher = Dispatcher(workers=[WorkerProcess(spec=spec, main=sinners.slow_to_draw)], queue=FairQueue())
    draining = asyncio.create_task(dispatcher.run())
    try:
        news = await heard(dispatcher)
    finally:
        draining.cancel()
        await asyncio.wait([draining])
    *running, end = news
    assert isinstance(end, Finished)
    shown = [event.progress.previews for event in running if isinstance(event, Running)]
    assert not shown[0]
    assert [opened(preview).size for preview in shown[-1]] == [(64, 64)] * 2
    assert len({preview.content for preview in shown[-1]}) == 2
    assert {path.suffix for path in (tmp_path / "pictures").iterdir()} == {".png"}


async def heard(dispatcher: Dispatcher) -> list[JobEvent]:
    request = ImageRequest(
        prompt="a red apple", model="tiny", seed=7, count=2, steps=4, guidance=8, width=64, height=64
    )
    ticket = dispatcher.submit(job_id=str(uuid.uuid4()), owner="ann", request=request)
    async with asyncio.timeout(120):
        return [event async for event in ticket.events()]
