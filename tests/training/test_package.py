"""Every stage for a few steps on a handful of pictures: what comes out loads in plain diffusers and draws."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from training import autoencoder, base, distil, evaluate, latents, pictures, shipping, style, text
from training.captions import Variant, caption
from training.colour import HUES, apart, border_colour, composite, nearest_background, object_hue, recolour
from training.lowrank import truncated
from training.pictures import SIDE, Picture
from training.recipe import CPU, STYLES, Recipe, Stage
from training.shipping import ship
from training.work import Work

FEW = Stage(steps=2, batch=2, rate=1e-3, warmup=1)
TINY = replace(
    CPU, name="tiny", unet_channels=(16, 32, 32), vae_channels=(8, 8, 16, 16), text_width=16, text_layers=1,
    vae=FEW, text=FEW, base=FEW, native=FEW, lora=FEW, style=FEW, ways=3, ways_limit_s=1e-9,
)  # fmt: skip
NAMES = ("red apple", "owl", "rocket", "strawberry")


def disc(red: int, green: int, blue: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    inside = np.where(x**2 + y**2 < 50**2, 255, 0)
    return np.stack([np.full_like(x, red), np.full_like(x, green), np.full_like(x, blue), inside], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A work folder after every stage."""
    torch.set_num_threads(1)
    work = Work(tmp_path_factory.mktemp("work"))
    rows, drawn = [], []
    for number, name in enumerate(NAMES):
        for shade, kind in enumerate(("3d", *STYLES)):
            rows.append(Picture(label=name, tags=("round",), style=kind, code=str(number), group=4))
            drawn.append(disc(60 * number + 20, 200 - 40 * number, 60 * shade + 40))
    pictures.save(rows, np.stack(drawn), work.pictures)
    all_stages(TINY, work)
    return work


def all_stages(recipe: Recipe, work: Work) -> None:
    autoencoder.train(recipe, work)
    latents.encode(recipe, work)
    text.train(recipe, work)
    base.train(recipe, work)
    distil.walk(recipe, work)
    distil.native(recipe, work)
    distil.lora(recipe, work)
    for name in STYLES:
        style.train(name, recipe, work)


@pytest.fixture(scope="module")
def models(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    ship(work, folder)
    return folder


def test_the_base_model_draws(models: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(models / "emoji")
    assert pipeline("a red apple", num_inference_steps=2, output_type="np").images.shape == (1, SIDE, SIDE, 3)


def test_the_native_form_is_told_its_guidance(models: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(models / "emoji-lcm")
    pipeline = LatentConsistencyModelPipeline.from_pretrained(models / "emoji", unet=unet)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    assert unet.config.time_cond_proj_dim == TINY.guidance_width
    assert pipeline("an owl", num_inference_steps=2, guidance_scale=3.0, output_type="np").images.shape[0] == 1


@pytest.mark.parametrize("file", ["emoji-lcm-lora/pytorch_lora_weights", "loras/emoji-flat", "loras/emoji-ink"])
def test_the_adapters_load(models: Path, file: str) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(models / "emoji")
    path = models / f"{file}.safetensors"
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    assert pipeline.get_active_adapters()


def test_whitened_latents_are_what_the_shipped_autoencoder_encodes_to(work: Work, models: Path) -> None:
    vae = StableDiffusionPipeline.from_pretrained(models / "emoji").vae
    known = latents.Latents.read(work)
    rgb, alpha = pictures.load(work.pictures).parts(known.vocabulary[0])
    with torch.no_grad():
        z = vae.encode(composite(rgb, alpha, "white")[None] * 2 - 1).latent_dist.mean
    assert vae.config.scaling_factor == 1.0
    assert (z[0] - known.z[0].float()).abs().mean() < 0.05  # known in half precision, and from bfloat16


def test_files_can_be_read_by_others(models: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in models.rglob("*.safetensors")} == {0o644}


def test_the_guidance_embedding_is_diffusers_own() -> None:
    scales = torch.linspace(1, 5, 41)
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scales - 1, embedding_dim=64)
    assert torch.equal(distil.guidance_embedding(scales, 64), theirs)


def test_the_teachers_way_ends_at_the_picture_that_its_pipeline_draws(work: Work) -> None:
    ways = distil.Ways.read(work)
    assert len(ways.ends) == 2 * FEW.batch, "the first of each kind, and then the time was up"
    assert ways.times[:, 0].eq(999).all()
    pipeline = shipping.pipeline(work)
    pipeline.set_progress_bar_config(disable=True)
    words = pipeline.tokenizer.batch_decode(ways.said[:1], skip_special_tokens=True)
    drawn = pipeline(
        words,
        num_inference_steps=50,
        guidance_scale=ways.scales[0].item(),
        latents=ways.points[:1, 0].float(),
        output_type="latent",
    ).images
    assert (drawn - ways.ends[:1]).abs().mean() < 0.05 * drawn.abs().mean()  # the way was walked in bfloat16


@pytest.mark.parametrize("colour", HUES)
def test_a_recoloured_thing_has_the_colour_that_its_caption_says(colour: str) -> None:
    planes = torch.from_numpy(disc(200, 60, 40)).float().permute(2, 0, 1) / 255
    shown = composite(recolour(planes[:3], planes[3], colour), planes[3], "white")[None]
    apple = Picture(label="red apple", tags=(), style="3d", code="0", group=4)
    assert apart(object_hue(shown), torch.tensor([HUES[colour]])).item() < 10
    assert f"{colour} apple" in caption(apple, Variant(0, colour), random.Random(0))


def test_the_border_names_the_background() -> None:
    planes = torch.from_numpy(disc(200, 60, 40)).float().permute(2, 0, 1) / 255
    assert nearest_background(border_colour(composite(planes[:3], planes[3], "blue")[None])) == ["blue"]


def test_held_out_combinations_are_never_trained(work: Work) -> None:
    known = latents.Latents.read(work)
    shown = [variant for name in STYLES for variant in style._examples(name, TINY, work, known)[0]]
    assert not any(variant.held_out() for variant in (*known.variants, *shown))


def test_colours_are_asked_for_where_nothing_gives_them_away() -> None:
    """Neither the thing's own colour nor another thing of the same name."""
    red = composite(torch.tensor([0.8, 0.1, 0.1]).view(3, 1, 1).expand(3, SIDE, SIDE), round_alpha(), "white")
    names = (*(f"thing {number}" for number in range(20)), "red heart", "blue heart")
    asked = evaluate.Vocabulary(names, red.expand(len(names), -1, -1, -1)).coloured()
    assert {colour for _, colour in asked} <= {"green", "teal", "blue", "purple"}
    assert len({colour for _, colour in asked}) > 2
    assert not any("heart" in prompt for prompt, _ in asked)


def round_alpha() -> torch.Tensor:
    return torch.from_numpy(disc(0, 0, 0)[..., 3:]).permute(2, 0, 1).float() / 255


def test_a_lower_rank_keeps_what_needs_no_more() -> None:
    thin = {"x.lora_A.weight": torch.randn(2, 8), "x.lora_B.weight": torch.randn(6, 2)}
    padded = {
        "x.lora_A.weight": torch.cat([thin["x.lora_A.weight"], torch.zeros(2, 8)]),
        "x.lora_B.weight": torch.cat([thin["x.lora_B.weight"], torch.zeros(6, 2)], 1),
    }
    smaller = truncated(padded, 2)
    product = smaller["x.lora_B.weight"].float() @ smaller["x.lora_A.weight"].float()
    assert torch.allclose(product, thin["x.lora_B.weight"] @ thin["x.lora_A.weight"], atol=2e-2)
