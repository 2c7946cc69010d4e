"""The engine: draws what is asked, the same bits for the same row in the same bucket, and survives what goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from inference.batching import bucket_for, guided_bucket_for
from inference.catalog import Catalog
from inference.contract import Adapter, Batch, Phase, Progress, Unread
from inference.drawing import sampler
from inference.drawing.drawn import Drawn
from inference.drawing.engine import Engine
from inference.drawing.text import MOST_CHUNKS
from inference.errors import (
    InferenceError,
    NumbersTooLarge,
    UnknownAdapter,
    UnknownModel,
    WeightsMissing,
    describe,
)
from inference.memory.budgets import Budgets
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row, silent
from tests.inference.likeness import psnr
from tests.inference.tensors import alive

PRECISIONS = ("fp32", "bf16")
MODELS = {"tiny": (3.0, 8.0, 13.0), "tiny-lora": (1.0, 1.5, 2.0), "tiny-xl": (8.0,), "tiny-xl-merged": (1.0, 2.0)}
"""Models with the guidances that their neighbours are given."""


@pytest.fixture(scope="module")
def engines(tiny_models: TinyModels) -> dict[str, Engine]:
    """One engine per precision, models loaded by earlier tests and all."""
    catalog = Catalog.load(tiny_models.catalog)
    return {name: Engine(catalog=catalog, device="cpu", precision=name) for name in PRECISIONS}


@pytest.fixture
def engine(tiny_models: TinyModels) -> Engine:
    """A fresh engine, with nothing loaded."""
    return Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_a_batch_becomes_one_picture_per_row_and_padding_none(engine: Engine) -> None:
    drawn = engine.draw(batch(row(0), row(1, seed=8), row(2, prompt="an owl"), bucket=4, width=72), silent)
    assert drawn.pixels.shape == (3, 64, 72, 3)
    assert drawn.pixels.dtype == np.uint8
    assert len({picture.tobytes() for picture in drawn.pixels}) == 3


def test_every_picture_has_the_recipe_that_draws_it_again(engine: Engine) -> None:
    first = engine.draw(
        batch(row(0), row(1, seed=9, prompt="an owl"), bucket=4, adapters=(Adapter(name="flat"),)), silent
    )
    recipe = first.recipes[1]
    again = engine.draw(
        batch(
            row(0, prompt=recipe.prompt, seed=recipe.seed, guidance=recipe.guidance),
            model=recipe.model,
            adapters=recipe.adapters,
            steps=recipe.steps,
            bucket=recipe.bucket,
            guided_bucket=recipe.guided_bucket or None,
        ),
        silent,
    )
    assert np.array_equal(first.pixels[1], again.pixels[0])
    assert again.recipes[0] == recipe


@pytest.mark.parametrize("model", ["tiny", "tiny-lora", "tiny-xl"])
def test_what_lies_beyond_the_tokens_that_are_read_is_told(engine: Engine, model: str) -> None:
    """The tiny encoders read 16 tokens at once, two of which are the ends; every letter is one."""
    most = "abcde  fghij klmn " * MOST_CHUNKS
    rows = [row(0, prompt=most), row(1, prompt=most + "o"), row(2, prompt="a" * 14 * MOST_CHUNKS + "bb cc")]
    drawn = engine.draw(batch(*rows, model=model, bucket=4), silent)
    assert [unread.prompt for unread in drawn.unread] == ["", "o", "bb cc"]
    same = engine.draw(batch(row(0, prompt=most), model=model, bucket=4, guided_bucket=4), silent)
    assert np.array_equal(drawn.pixels[1], same.pixels[0])


@pytest.mark.parametrize("model", ["tiny", "tiny-lora", "tiny-xl-merged"])
def test_long_prompts_are_drawn_apart_from_short_ones_and_told_in_their_order(engine: Engine, model: str) -> None:
    guidance = 8.0 if model == "tiny" else 2.0
    rows = [
        row(index, prompt=prompt, negative=negative, seed=index, guidance=guidance)
        for index, (prompt, negative) in enumerate(
            [("a", ""), ("b" * 20, ""), ("c", "d" * 40), ("e" * 20, ""), ("f", "g")]
        )
    ]
    drawn = engine.draw(batch(*rows, model=model, bucket=8), silent)
    assert [recipe.prompt for recipe in drawn.recipes] == [one.prompt for one in rows]
    together = [[0, 2, 4], [1, 3]] if model == "tiny" else [[0, 4], [1, 3], [2]]
    for places in together:
        part = engine.draw(
            batch(*(rows[place] for place in places), model=model, bucket=bucket_for(len(places))), silent
        )
        assert np.array_equal(drawn.pixels[places], part.pixels)
        assert [drawn.recipes[place] for place in places] == list(part.recipes)


def test_the_end_of_a_long_prompt_shows(engine: Engine) -> None:
    ends = [row(0, prompt="a" * 20 + "b"), row(1, prompt="a" * 20 + "c")]
    one, other = engine.draw(batch(*ends, model="tiny"), silent).pixels
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("guidance", "unread"), [(1.0, ""), (2.0, "o")])
def test_of_a_negative_prompt_the_end_is_told_where_it_acts(engine: Engine, guidance: float, unread: str) -> None:
    one = row(negative="abcde fghij klmn " * MOST_CHUNKS + "o", guidance=guidance)
    assert engine.draw(batch(one, model="tiny-lora"), silent).unread == (Unread(negative=unread),)
    assert engine.draw(batch(one, model="tiny"), silent).unread == (Unread(),)


def test_progress_tells_of_loading_every_step_and_decoding(engine: Engine) -> None:
    heard: list[Progress] = []
    engine.draw(batch(steps=3), heard.append)
    loading = [progress for progress in heard if progress.phase is Phase.LOADING]
    assert loading
    assert heard[: len(loading)] == loading
    assert [progress.step for progress in loading] == sorted(progress.step for progress in loading)
    steps = [(progress.step, progress.steps) for progress in heard if progress.phase is Phase.DRAWING]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert heard[-1] == Progress(phase=Phase.DECODING)


def test_progress_tells_of_every_picture_that_is_decoded_and_hears_of_a_wish_to_stop_there(engine: Engine) -> None:
    heard: list[Progress] = []

    def stop(progress: Progress) -> None:
        heard.append(progress)
        if progress == Progress(phase=Phase.DECODING, step=2):
            raise StopDrawing

    rows = [row(index) for index in range(3)]
    with pytest.raises(StopDrawing):
        engine.draw(batch(*rows, bucket=4), stop)
    assert [progress.step for progress in heard if progress.phase is Phase.DECODING] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_of_a_device_that_runs_ahead_is_told_what_it_has_done(
    engine: Engine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.draw(batch(), silent)
    heard: list[object] = []
    monkeypatch.setattr(engine, "_tools", replace(engine._tools, device=torch.device(kind)))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: heard.append(device.type))
    engine.draw(batch(row(0), row(1)), lambda progress: heard.append((progress.phase, progress.step)))
    steps = [*((Phase.DRAWING, step) for step in range(3)), *((Phase.DECODING, step) for step in range(2))]
    assert heard == [waited_or_told for step in steps for waited_or_told in (kind, step)]


def test_a_loaded_model_is_not_loaded_again(engine: Engine) -> None:
    engine.draw(batch(), silent)
    heard: list[Progress] = []
    engine.draw(batch(), heard.append)
    assert Phase.LOADING not in {progress.phase for progress in heard}


def test_the_models_in_memory_are_told_and_bounded(tiny_models: TinyModels) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    engine = Engine(catalog=catalog, device="cpu", precision="fp32", budgets=Budgets(device=8_000_000))
    for model in ("tiny", "tiny-flat", "tiny"):
        engine.draw(batch(model=model), silent)
    assert engine.resident == ("tiny",)
    roomy = Engine(catalog=catalog, device="cpu", precision="fp32", budgets=Budgets(device=10**9))
    for model in ("tiny", "tiny-flat", "tiny"):
        roomy.draw(batch(model=model), silent)
    assert roomy.resident == ("tiny-flat", "tiny")


def test_a_style_shows_and_its_strength_too(engines: dict[str, Engine]) -> None:
    pictures = [
        engines["fp32"].draw(batch(adapters=adapters), silent).pixels
        for adapters in ((), (Adapter(name="flat"),), (Adapter(name="flat", strength=0.5),), (Adapter(name="noto"),))
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_style_baked_into_an_entry_equals_the_same_style_asked_for(engines: dict[str, Engine]) -> None:
    baked = engines["fp32"].draw(batch(model="tiny-flat"), silent)
    asked = engines["fp32"].draw(batch(adapters=(Adapter(name="flat"),)), silent)
    assert np.array_equal(baked.pixels, asked.pixels)


def test_a_negative_prompt_acts_only_with_classifier_free_guidance(engines: dict[str, Engine]) -> None:
    def changed(model: str, guidance: float) -> bool:
        drawn = engines["fp32"].draw(
            batch(row(0, guidance=guidance), row(1, guidance=guidance, negative="blue"), model=model), silent
        )
        return not np.array_equal(*drawn.pixels)

    assert not changed("tiny", 8.0)
    assert not changed("tiny-lora", 1.0)
    assert changed("tiny-lora", 1.5)


# -- the same bits again -----------------------------------------------------------------------------------------------

NEIGHBOURS = st.lists(
    st.tuples(st.sampled_from(["an owl", "blue", "a very long prompt about cats"]), st.integers(0, 2**32 - 1)),
    max_size=7,
)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_row_has_the_same_bits_whatever_shares_its_batch_and_wherever_it_stands(
    engines: dict[str, Engine], precision: str, model: str, data: st.DataObject
) -> None:
    """The buckets that its recipe tells are all that its bits depend on."""
    bucket = data.draw(st.sampled_from([1, 2, 4, 8]))
    neighbours = data.draw(NEIGHBOURS)[: bucket - 1]
    guidances = st.sampled_from(MODELS[model])
    others = [row(0, prompt=prompt, seed=seed, guidance=data.draw(guidances)) for prompt, seed in neighbours]
    slot = data.draw(st.integers(0, len(others)))
    mine = row(9, guidance=data.draw(guidances), negative="blue")
    rows = (*others[:slot], mine, *others[slot:])
    guided_bucket = data.draw(st.sampled_from([size for size in (0, 1, 2, 4, 8) if guided_bucket_for(rows) <= size]))
    engine = engines[precision]
    among = engine.draw(batch(*rows, model=model, bucket=bucket, guided_bucket=guided_bucket, width=72), silent)
    recipe = among.recipes[slot]
    second = recipe.guided_bucket or guided_bucket_for([mine])
    alone = engine.draw(batch(mine, model=model, bucket=recipe.bucket, guided_bucket=second, width=72), silent)
    assert np.array_equal(among.pixels[slot], alone.pixels[0])
    assert recipe == alone.recipes[0]
    if all(len(one.prompt.replace(" ", "")) <= 14 for one in rows):  # as much as these models read at once
        assert recipe.bucket == bucket


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_the_guided_rows_take_a_second_pass(
    engines: dict[str, Engine], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def counting(network: Any, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        passes.append(len(latents))
        return forward(network, latents, *rest)

    forward = sampler._forward
    monkeypatch.setattr(sampler, "_forward", counting)
    guidances = (1.0, 1.5, 1.0, 2.0, 1.2)
    rows = [row(index, seed=index, guidance=guidance, negative="blue") for index, guidance in enumerate(guidances)]
    drawn = engines[precision].draw(batch(*rows, model="tiny-lora", bucket=8, steps=2), silent)
    assert passes == [8, 4, 8, 4]
    assert [recipe.guided_bucket for recipe in drawn.recipes] == [0, 4, 0, 4, 4]
    assert {recipe.bucket for recipe in drawn.recipes} == {8}
    native = engines[precision].draw(batch(*rows, model="tiny", bucket=8, steps=2), silent)
    assert passes[4:] == [8, 8]
    assert {recipe.guided_bucket for recipe in native.recipes} == {0}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_guidance_is_the_step_from_the_negative_prompt_to_the_prompt_and_beyond(
    engines: dict[str, Engine], precision: str
) -> None:
    """With the prompt for its own negative one, guidance changes nothing."""
    rows = [row(0, guidance=1.0), row(1, guidance=2.0, negative="a red apple"), row(2, guidance=2.0, negative="blue")]
    drawn = engines[precision].draw(batch(*rows, model="tiny-lora", bucket=4, guided_bucket=4), silent)
    assert np.array_equal(drawn.pixels[0], drawn.pixels[1])
    assert not np.array_equal(drawn.pixels[0], drawn.pixels[2])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_large_picture_too_has_the_same_bits_in_every_place(tiny_models: TinyModels, precision: str) -> None:
    """From 32 × 32 latents on, torch divides a batch among its threads in other ways than below."""
    before = torch.get_num_threads()
    engine = Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision=precision, threads=2)
    rows = [row(index, seed=index) for index in range(4)]
    first = engine.draw(batch(*rows, width=256, height=256, steps=1), silent)
    turned = engine.draw(batch(*rows[1:], rows[0], width=256, height=256, steps=1), silent)
    torch.set_num_threads(before)
    assert np.array_equal(first.pixels, np.roll(turned.pixels, 1, axis=0))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_picture_is_the_same_again_after_other_models_were_drawn_with(
    tiny_models: TinyModels, precision: str
) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    engine = Engine(catalog=catalog, device="cpu", precision=precision, budgets=Budgets(device=1))
    first = engine.draw(batch(model="tiny-lora", bucket=2), silent)
    for model in ("tiny-flat", "tiny-xl", "tiny"):
        engine.draw(batch(model=model), silent)
    assert np.array_equal(first.pixels, engine.draw(batch(model="tiny-lora", bucket=2), silent).pixels)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_across_buckets_it_is_the_same_picture_within_40_decibels(engines: dict[str, Engine], precision: str) -> None:
    alone, padded = (engines[precision].draw(batch(bucket=bucket), silent).pixels for bucket in (1, 8))
    assert psnr(alone, padded) >= 40


# -- what goes wrong ---------------------------------------------------------------------------------------------------


class StopDrawing(Exception):  # noqa: N818 (no error: somebody changed their mind)
    """What a caller raises who wants no more."""


@pytest.mark.parametrize("moment", list(Phase)[:3])
def test_stopping_at_any_moment_passes_through_and_leaves_the_engine_fit(engine: Engine, moment: Phase) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase is moment:
            raise StopDrawing

    with pytest.raises(StopDrawing):
        engine.draw(batch(), stop)
    assert engine.draw(batch(), silent).pixels.std() > 0


@pytest.mark.parametrize(
    ("order", "failure"),
    [
        (batch(model="nope"), UnknownModel),
        (batch(model="absent"), WeightsMissing),
        (batch(adapters=(Adapter(name="nope"),)), UnknownAdapter),
    ],
)
def test_an_order_that_cannot_be_drawn_fails_and_the_next_is_drawn(engine: Engine, order: Batch, failure: type) -> None:
    with pytest.raises(InferenceError) as refusal:
        engine.draw(order, silent)
    assert isinstance(refusal.value.failure, failure)
    assert engine.resident == ()
    assert engine.draw(batch(), silent).pixels.std() > 0


def test_more_rows_than_the_bucket_are_a_mistake_of_the_caller(engine: Engine) -> None:
    with pytest.raises(ValueError, match="bucket"):
        engine.draw(batch(row(0), row(1), bucket=1), silent)
    with pytest.raises(ValueError, match="guided bucket"):
        engine.draw(batch(row(0), row(1), guided_bucket=1), silent)


def test_numbers_that_overflow_are_no_picture_and_the_order_fails_in_words(copied: TinyModels) -> None:
    path = copied.native / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for layer in ("conv_norm_out", "conv_out"):
        weights[f"decoder.{layer}.weight"].fill_(1e25)
    save_file(weights, path)
    engine = Engine(catalog=Catalog.load(copied.catalog), device="cpu", precision="fp32")
    fault = NumbersTooLarge(model="tiny", precision="float32")
    assert engine.draw(batch(row(0), row(1)), silent).faults == (fault, fault)
    assert "PRECISION=bfloat16" not in describe(fault)
    assert "PRECISION=bfloat16" in describe(NumbersTooLarge(model="tiny", precision="float16"))
    assert engine.draw(batch(model="tiny-lora"), silent).pixels.std() > 0


def test_an_autoencoder_that_overflows_in_half_precision_decodes_in_full(copied: TinyModels) -> None:
    """As those of many anime checkpoints do. Dividing by a norm hides how large the numbers before it are."""
    path = copied.native / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_in.weight"] *= 1e5
    weights["decoder.conv_in.bias"] *= 1e5
    save_file(weights, path)
    orders = batch(row(0), row(1, seed=8), bucket=2)
    half, full = (
        Engine(catalog=Catalog.load(copied.catalog), device="cpu", precision=precision).draw(orders, silent)
        for precision in ("fp16", "fp32")
    )
    assert half.faults == (None, None)
    assert psnr(half.pixels, full.pixels) > 40


def test_nothing_of_a_batch_is_kept_after_it(engine: Engine) -> None:
    def draw(seed: int) -> Drawn:
        return engine.draw(batch(row(0, seed=seed)), silent)

    draw(1)
    before = len(alive())
    for seed in range(5):
        draw(seed)
    assert len(alive()) == before


def test_an_engine_says_what_it_draws_with(engine: Engine) -> None:
    assert (engine.device_name, engine.precision_name) == ("cpu", "float32")
