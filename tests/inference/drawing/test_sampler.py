"""The sampler against diffusers: same schedule, same noise, same pictures, for both ways of guiding and both shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from inference.catalog import Catalog
from inference.contract import Row, Variation
from inference.drawing.batch import decode_float, draw_latents
from inference.drawing.models import load_model
from inference.drawing.sampler import Conditions, Guidance, draw_noise, guidance_embedding, sample
from inference.drawing.text import PromptCache
from inference.schedule import Schedule
from tests.checkpoints import TinyModels, quiet, sd15
from tests.inference.batches import SIDE, batch, row

PROMPTS = ["a red apple", "an owl, wide eyes"]
SEEDS = [7, 4_000_000_000]
TOLERANCE = 1e-4
"""Of the range of a pixel, 0 to 1."""
STEPS = range(1, 9)


def theirs(pipeline: DiffusionPipeline, steps: int, guidance: float, **more: object) -> Tensor:
    """Pictures as a diffusers pipeline draws them, (B, 3, H, W) from 0 to 1."""
    drawn = quiet(pipeline)(
        PROMPTS,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
        width=SIDE + 8,
        height=SIDE,
        output_type="pt",
        **more,
    )
    pictures: Tensor = drawn.images
    return pictures


def ours(models: TinyModels, name: str, steps: int, rows: tuple[Row, ...]) -> Tensor:
    """The same pictures by our loader and sampler, before they are rounded to bytes."""
    catalog = Catalog.load(models.catalog)
    model = load_model(
        catalog,
        catalog[name],
        (),
        device=torch.device("cpu"),
        precision=torch.float32,
        on_part=lambda: None,
    )
    order = batch(*rows, model=name, steps=steps, width=SIDE + 8)
    with torch.inference_mode():
        pictures = decode_float(model.vae, draw_latents(model, PromptCache(), order, lambda step, estimate: None))
    return (pictures * 0.5 + 0.5).clamp(0, 1)


def rows(guidance: float, negatives: tuple[str, str] = ("", "")) -> tuple[Row, ...]:
    described = zip(PROMPTS, negatives, SEEDS, strict=True)
    return tuple(
        row(index, prompt=prompt, negative=negative, seed=seed, guidance=guidance)
        for index, (prompt, negative, seed) in enumerate(described)
    )


def assert_same(mine: Tensor, reference: Tensor) -> None:
    assert mine.shape == reference.shape
    assert reference.std() > 0.05, "a flat picture would prove nothing"
    assert (mine - reference).abs().max() <= TOLERANCE


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("guidance", [3.0, 8.0])
def test_a_native_lcm_draws_what_its_pipeline_draws(tiny_models: TinyModels, steps: int, guidance: float) -> None:
    pipeline = LatentConsistencyModelPipeline.from_pretrained(tiny_models.native)
    assert_same(ours(tiny_models, "tiny", steps, rows(guidance)), theirs(pipeline, steps, guidance))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("guidance", [1.0, 1.7])
def test_a_base_with_lcm_lora_draws_what_its_pipeline_draws(
    tiny_models: TinyModels, steps: int, guidance: float
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_models.base, safety_checker=None)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(tiny_models.lcm_lora.parent, weight_name=tiny_models.lcm_lora.name)
    negatives = ("blue", "")
    reference = theirs(pipeline, steps, guidance, negative_prompt=list(negatives))
    assert_same(ours(tiny_models, "tiny-lora", steps, rows(guidance, negatives)), reference)


def test_a_long_prompt_is_drawn_as_diffusers_draws_its_parts_side_by_side(tiny_models: TinyModels) -> None:
    """The tiny encoder reads 16 tokens at once, two of which are the ends; every letter is one."""
    pipeline = LatentConsistencyModelPipeline.from_pretrained(tiny_models.native)
    parts = [pipeline.encode_prompt(part, "cpu", 1, False)[0] for part in ("abcde fghij klmn", "opq")]
    drawn = quiet(pipeline)(
        prompt_embeds=torch.cat(parts, dim=1),
        num_inference_steps=4,
        guidance_scale=8.0,
        generator=torch.Generator("cpu").manual_seed(SEEDS[0]),
        width=SIDE + 8,
        height=SIDE,
        output_type="pt",
    )
    long = row(prompt="abcde fghij klmn opq", seed=SEEDS[0], guidance=8.0)
    assert_same(ours(tiny_models, "tiny", 4, (long,)), drawn.images)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_native_lcm_in_sdxls_shape_draws_what_its_pipeline_draws(tiny_models: TinyModels, steps: int) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_models.xl_unet)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_models.xl, unet=unet, add_watermarker=False)
    assert_same(ours(tiny_models, "tiny-xl", steps, rows(8.0)), theirs(pipeline, steps, 8.0))


@pytest.mark.parametrize(("guidance", "negatives"), [(1.0, None), (2.0, None), (2.0, ["blue", "green"])])
def test_a_merged_model_in_sdxls_shape_draws_what_its_pipeline_draws(
    tiny_models: TinyModels, guidance: float, negatives: list[str] | None
) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_models.xl, add_watermarker=False)
    reference = theirs(pipeline, 4, guidance, negative_prompt=negatives)
    first, second = negatives or ("", "")
    assert_same(ours(tiny_models, "tiny-xl-merged", 4, rows(guidance, (first, second))), reference)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions_than_noise_are_drawn_as_diffusers_does(
    tiny_models: TinyModels, tmp_path: Path, prediction: str
) -> None:
    models = TinyModels(tmp_path)
    models.catalog.write_text(tiny_models.catalog.read_text())
    pipeline = sd15(time_cond_proj_dim=24, prediction_type=prediction)
    pipeline.save_pretrained(models.native)
    assert_same(ours(models, "tiny", 4, rows(8.0)), theirs(pipeline, 4, 8.0))


class StopDrawing(Exception):  # noqa: N818 (no error: somebody changed their mind)
    """What a caller raises who wants no more."""


def schedule(**settings: object) -> Schedule:
    scheduler = LCMScheduler(**settings)
    return Schedule(alphas=tuple(scheduler.alphas_cumprod.tolist()), prediction="epsilon")


@pytest.mark.parametrize("settings", [{}, {"num_train_timesteps": 1_024}])
def test_timesteps_are_those_of_diffusers_for_every_number_of_steps(settings: dict[str, int]) -> None:
    scheduler = LCMScheduler(**settings)
    for steps in range(1, 51):
        scheduler.set_timesteps(steps)
        assert schedule(**settings).timesteps(steps) == tuple(scheduler.timesteps.tolist())


def test_four_steps_are_those_that_the_models_were_distilled_on() -> None:
    assert schedule().timesteps(4) == (999, 759, 499, 259)


@pytest.mark.parametrize("steps", [0, 51])
def test_a_number_of_steps_that_distillation_never_saw_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="50"):
        schedule().timesteps(steps)


def test_clipping_bounds_the_predicted_sample_as_in_diffusers() -> None:
    scheduler = LCMScheduler(clip_sample=True, clip_sample_range=0.5)
    scheduler.set_timesteps(1)
    noise = draw_noise([1], 1, (4, 8, 8))
    plain = schedule()
    clipped = Schedule(alphas=plain.alphas, prediction="epsilon", clip=0.5)
    expected = scheduler.step(noise[0] * 0.3, scheduler.timesteps[0], noise[0]).denoised

    def network(latents: Tensor, *args: object, **kwargs: object) -> tuple[Tensor]:
        return (latents * 0.3,)

    mine = sample(
        network, clipped, noise, Conditions(text=torch.zeros(1, 1, 1)), Guidance(), lambda step, estimate: None
    )
    assert torch.allclose(mine, expected, atol=1e-6)


def test_every_step_tells_what_the_pictures_look_like_by_now() -> None:
    """The consistency function's own output, which the noise of the next step is added to."""
    estimates: list[Tensor | None] = []

    def network(latents: Tensor, *args: object, **kwargs: object) -> tuple[Tensor]:
        return (latents * 0.3,)

    noise = draw_noise([1], 3, (4, 8, 8))
    arguments = (Conditions(text=torch.zeros(1, 1, 1)), Guidance())
    drawn = sample(network, schedule(), noise, *arguments, lambda step, estimate: estimates.append(estimate))
    one = sample(network, schedule(), noise[:1], *arguments, lambda step, estimate: None)
    assert (len(estimates), estimates[0]) == (4, None)
    assert estimates[1] is not None
    assert torch.allclose(estimates[1], one)
    assert estimates[3] is drawn


def test_noise_follows_the_seed_alone_and_more_steps_only_append_to_it() -> None:
    shape = (4, 8, 8)
    together = draw_noise([1, 2, 3], 4, shape)
    assert torch.equal(together[:, 1], draw_noise([2], 4, shape)[:, 0])
    assert torch.equal(together[:2], draw_noise([1, 2, 3], 2, shape))
    assert not torch.equal(together[0, 0], together[0, 1])


def varied(seed: int, strength: float, *, steps: int = 4, shape: tuple[int, int, int] = (4, 64, 64)) -> Tensor:
    """The noise of a variation of seed 1."""
    return draw_noise([1], steps, shape, [Variation(seed=seed, strength=strength)])


def test_a_variation_leads_from_the_noise_of_its_seed_to_that_of_another_one() -> None:
    shape = (4, 64, 64)
    here, there = draw_noise([1], 4, shape), draw_noise([2], 4, shape)
    assert torch.equal(varied(2, 0.0), here)
    assert torch.allclose(varied(2, 1.0), there, atol=1e-6)
    nearness = [float((varied(2, strength) * here).mean()) for strength in (0.1, 0.2, 0.5, 0.9)]
    assert nearness == sorted(nearness, reverse=True)


@pytest.mark.parametrize("strength", [0.1, 0.2, 0.5, 0.8])
def test_varied_noise_is_as_strong_as_any_in_every_step(strength: float) -> None:
    for field in varied(2, strength):
        assert float(field.mean()) == pytest.approx(0, abs=0.05)
        assert float(field.var()) == pytest.approx(1, abs=0.05)


def test_a_variation_by_the_same_seed_is_none() -> None:
    """A sum of a field and itself would be stronger than noise is."""
    assert torch.equal(varied(1, 0.5), draw_noise([1], 4, (4, 64, 64)))


def test_rows_with_and_without_a_variation_do_not_touch_each_other() -> None:
    shape, variation = (4, 8, 8), Variation(seed=2, strength=0.2)
    together = draw_noise([1, 1, 3], 2, shape, [None, variation, None])
    assert torch.equal(together[:, 0], draw_noise([1], 2, shape)[:, 0])
    assert torch.equal(together[:, 1], draw_noise([1], 2, shape, [variation])[:, 0])
    assert torch.equal(together[:, 2], draw_noise([3], 2, shape)[:, 0])


@pytest.mark.parametrize("dim", [24, 25, 256])
def test_the_guidance_embedding_is_that_of_diffusers(dim: int) -> None:
    scales = [1.0, 3.0, 8.0, 8.3, 13.0]
    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    reference = embed(None, torch.tensor(scales) - 1, embedding_dim=dim)
    assert torch.equal(guidance_embedding(scales, dim), reference)


def test_the_caller_hears_of_every_step_and_can_stop_between_two() -> None:
    heard: list[int] = []

    def on_step(step: int, estimate: Tensor | None) -> None:
        heard.append(step)
        if step == 2:
            raise StopDrawing

    def network(latents: Tensor, *args: object, **kwargs: object) -> tuple[Tensor]:
        return (latents,)

    noise = draw_noise([1], 4, (4, 8, 8))
    with pytest.raises(StopDrawing):
        sample(network, schedule(), noise, Conditions(text=torch.zeros(1, 1, 1)), Guidance(), on_step)
    assert heard == [0, 1, 2]
