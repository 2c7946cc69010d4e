"""The shipped weights: plain diffusers loads them, and draws the pictures that we draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray

from inference.catalog import Catalog
from inference.catalog.entries import Family, Kind, ModelEntry
from inference.drawing.engine import Engine
from tests.checkpoints import quiet
from tests.inference.batches import batch, row, silent
from tests.inference.likeness import psnr

CATALOG = Catalog.load(Path(__file__).parents[3] / "models" / "models.toml")
ENTRIES = [entry for entry in CATALOG if entry.family is Family.EMOJI]
PROMPTS = ["a red apple", "an owl", "a rocket", "a cat on a blue background"]
SEED = 7

pytestmark = pytest.mark.skipif(
    not any(CATALOG.on_disk(entry) for entry in ENTRIES),
    reason="the built-in model's weights are not in this checkout",
)
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(catalog=CATALOG, device="cpu", precision="fp32")


def ours(engine: Engine, entry: ModelEntry, steps: int = 4) -> NDArray[np.uint8]:
    rows = [
        row(index, prompt=prompt, seed=SEED + index, guidance=entry.guidance.default)
        for index, prompt in enumerate(PROMPTS)
    ]
    order = batch(*rows, model=entry.name, steps=steps, width=entry.width, height=entry.height)
    return engine.draw(order, silent).pixels


def theirs(entry: ModelEntry, steps: int = 4) -> NDArray[np.uint8]:
    drawn = quiet(plain_diffusers(entry))(
        PROMPTS,
        num_inference_steps=steps,
        guidance_scale=entry.guidance.default,
        generator=[torch.Generator("cpu").manual_seed(SEED + index) for index in range(len(PROMPTS))],
        width=entry.width,
        height=entry.height,
        output_type="np",
    )
    return (drawn.images * 255).round().astype(np.uint8)


def plain_diffusers(entry: ModelEntry) -> DiffusionPipeline:
    """As its documentation would have one load these files."""
    assert entry.weights.path is not None
    kind = LatentConsistencyModelPipeline if entry.kind is Kind.NATIVE else StableDiffusionPipeline
    own = {}
    if entry.unet is not None and entry.unet.path is not None:
        own["unet"] = UNet2DConditionModel.from_pretrained(entry.unet.path, dtype=torch.float32)
    pipeline = kind.from_pretrained(entry.weights.path, dtype=torch.float32, **own)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    loras = [("lcm", 1.0, entry.lcm_lora)] if entry.lcm_lora else []
    loras += [(style.name, style.strength, CATALOG.adapter(style.name, entry.family).weights) for style in entry.styles]
    for name, _, source in loras:
        assert source.path is not None
        pipeline.load_lora_weights(source.path.parent, weight_name=source.path.name, adapter_name=name)
    if loras:
        pipeline.set_adapters([name for name, _, _ in loras], [strength for _, strength, _ in loras])
    return pipeline


@each_entry
def test_plain_diffusers_draws_the_same_pictures(engine: Engine, entry: ModelEntry) -> None:
    assert psnr(ours(engine, entry), theirs(entry)) >= 50


@each_entry
def test_pictures_are_no_flat_colour_and_follow_the_prompt(engine: Engine, entry: ModelEntry) -> None:
    pictures = ours(engine, entry)
    assert all(picture.std() > 10 for picture in pictures)
    distances = [psnr(pictures[0], other) for other in pictures[1:]]
    assert max(distances) < 30


def test_the_entries_draw_visibly_different_pictures(engine: Engine) -> None:
    pictures = [ours(engine, entry) for entry in ENTRIES]
    for index, one in enumerate(pictures):
        assert all(psnr(one, other) < 35 for other in pictures[index + 1 :])


def test_a_red_apple_is_red(engine: Engine) -> None:
    apple = ours(engine, CATALOG.default)[0].astype(int)
    red, green, blue = (apple[..., channel] for channel in range(3))
    coloured = apple.max(axis=2) - apple.min(axis=2) > 60
    assert coloured.mean() > 0.05
    assert ((red > green) & (red > blue))[coloured].mean() > 0.7


@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1)])
def test_the_weight_of_a_colour_shows(engine: Engine, colour: str, channel: int) -> None:
    entry = CATALOG.default
    rows = [
        row(index, prompt=f"a ({colour}:{weight}) apple", seed=SEED, guidance=entry.guidance.default)
        for index, weight in enumerate((0.5, 1.0, 1.5))
    ]
    order = batch(*rows, model=entry.name, steps=4, bucket=4, width=entry.width, height=entry.height)
    pictures = engine.draw(order, silent).pixels.astype(int)
    coloured = pictures[1].max(axis=2) - pictures[1].min(axis=2) > 60
    others = np.delete(pictures, channel, axis=3).mean(axis=3)
    weak, plain, strong = (
        (picture[..., channel] - other)[coloured].mean() for picture, other in zip(pictures, others, strict=True)
    )
    assert weak < plain - 2
    assert plain < strong - 10


@pytest.mark.parametrize("bucket", [1, 4])
def test_the_default_precision_gives_the_same_bits_again_and_about_the_same_picture(
    engine: Engine, bucket: int
) -> None:
    entry = CATALOG.default
    order = batch(row(0, seed=SEED), model=entry.name, steps=4, bucket=bucket, width=entry.width, height=entry.height)
    quick = Engine(catalog=CATALOG, device="cpu")
    first, again = quick.draw(order, silent).pixels, quick.draw(order, silent).pixels
    assert np.array_equal(first, again)
    assert psnr(first, engine.draw(order, silent).pixels) >= 25
