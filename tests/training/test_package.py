"""Every stage for a few steps on a handful of pictures: what comes out loads in plain diffusers and draws."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from training import autoencoder, base, distil, evaluate, forms, latents, pictures, sheets, shipping, style, text
from training.__main__ import MODELS, main
from training.captions import Variant, caption
from training.colour import HUES, apart, border_colour, composite, nearest_background, object_hue, recolour
from training.lowrank import truncated
from training.pictures import SIDE, Picture
from training.prompts import SHEET
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


def test_files_can_be_read_by_those_who_may_read_new_files(models: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in models.rglob("*.safetensors")} == {(tmp_path / "new").stat().st_mode}


@pytest.fixture
def copied(work: Work, tmp_path: Path) -> Work:
    """A work folder after every stage, to change."""
    shutil.copytree(work.root, tmp_path / "work")
    return Work(tmp_path / "work")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_network_that_is_not_finite_replaces_nothing(copied: Work, models: Path) -> None:
    native, before = UNet2DConditionModel.from_pretrained(copied.native), contents(models)
    torch.nn.init.constant_(native.conv_out.bias, 1e6)  # more than half precision can hold
    native.save_pretrained(copied.native)
    with pytest.raises(SystemExit, match=r"emoji-lcm/.* not finite, such as conv_out\.bias"):
        ship(copied, models)
    assert contents(models) == before


def test_a_model_that_is_too_large_replaces_nothing_and_other_peoples_files_do_not_count(
    work: Work, tmp_path: Path
) -> None:
    mine, old = tmp_path / "loras" / "mine.safetensors", tmp_path / "emoji-lcm" / "old.safetensors"
    for path in (mine, old):
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(48_000_000)  # takes no room on the disk
    with pytest.raises(SystemExit, match="MB, more than 48"):
        ship(work, tmp_path)
    assert not (tmp_path / "emoji").exists()
    old.unlink()
    assert ship(work, tmp_path) < 48_000_000


Drawn = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def on_sheet(stage: str, work: Work) -> Drawn:
    """The pictures on a stage's sample sheet."""
    sheet = np.asarray(Image.open(work.sheet(stage)))
    return sheet.reshape(3, SIDE, 8, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)


def difference(a: Drawn, b: Drawn) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_the_last_sample_sheet_of_a_stage_is_what_the_shipped_form_draws(work: Work, models: Path) -> None:
    shipped = {"native": forms.native(models), "lora": forms.lora(models)}
    shipped |= {f"style-{name}": forms.lora(models, name) for name in STYLES}
    for stage, form in shipped.items():
        drawn = sheets.pixels(form.draw(SHEET, 4))
        assert difference(drawn, on_sheet(stage, work)) < 0.3, "of 255: what ships is in half precision"


def test_without_an_lcm_lora_a_style_is_drawn_as_the_base_is(work: Work, copied: Work) -> None:
    shutil.rmtree(copied.lora)
    copied.checkpoint("style-ink").unlink()
    style.train("ink", TINY, copied)
    drawn = on_sheet("style-ink", copied)
    assert difference(drawn, on_sheet("base", work)) < difference(drawn, on_sheet("style-ink", work))


def test_the_tokenizer_of_an_encoder_in_training_is_not_learnt_anew(copied: Work) -> None:
    merges = copied.tokenizer / "merges.txt"
    merges.write_text(merges.read_text(encoding="utf-8") + "a zz\n", encoding="utf-8")
    text.train(replace(TINY, text=replace(FEW, steps=3)), copied)
    assert merges.read_text(encoding="utf-8").endswith("a zz\n")


def test_ways_are_walked_anew_when_the_base_has_trained_on(copied: Work, capsys: pytest.CaptureFixture[str]) -> None:
    before = distil.Ways.read(copied)
    longer = replace(TINY, base=replace(FEW, steps=3))
    base.train(longer, copied)
    assert not copied.native.exists()
    distil.walk(longer, copied)
    after = distil.Ways.read(copied)
    assert torch.equal(after.points[:, 0], before.points[:, 0])
    assert not torch.equal(after.ends, before.ends)
    said = capsys.readouterr()
    assert "ways: 2 of 3 batches in 0:00:" in said.out
    assert "ways: 100%" in said.err


def test_the_model_in_the_repository_names_the_emoji_that_it_was_evaluated_on() -> None:
    names, evaluation = (
        json.loads((MODELS / "emoji" / file).read_text(encoding="utf-8"))
        for file in (shipping.VOCABULARY, "evaluation.json")
    )
    assert len(set(names)) == len(names) == evaluation["vocabulary"]


def test_whoever_has_only_the_models_can_evaluate_them(work: Work, models: Path, tmp_path: Path) -> None:
    fresh = Work(tmp_path)
    shutil.copyfile(work.pictures, fresh.pictures)
    assert main(["evaluate", "--work", str(tmp_path), "--models", str(models)]) == 0
    found = json.loads((models / "emoji" / "evaluation.json").read_text(encoding="utf-8"))
    assert found["vocabulary"] == len(NAMES)
    assert {row["form"] for row in found["rows"]} == {"teacher", "undistilled", "native", "lora"}
    assert fresh.sheet("evaluation-native").exists()


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
