"""Compiled networks: the same pictures, one graph for every shape, and none for another checkpoint.

``eager`` is the compiler that traces and generates nothing: what is traced is what matters here, and it takes seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo

from inference.catalog import Catalog
from inference.contract import Batch, Phase, Progress
from inference.drawing.engine import Engine
from inference.drawing.graphs import shape_of, tensors_of
from inference.drawing.sampler import Conditions, Guidance, LoopInputs, NegativePass
from inference.schedule import Schedule
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row, silent


@pytest.fixture
def engine(tiny_models: TinyModels) -> Iterator[Engine]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32", compiler="eager")
    torch._dynamo.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def test_what_is_compiled_draws_what_is_not(engine: Engine, tiny_models: TinyModels) -> None:
    plain = Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")
    for order in (
        batch(),
        batch(model="tiny-lora"),
        batch(model="tiny-xl"),
        batch(row(guidance=2.0), model="tiny-lora"),
    ):
        assert np.array_equal(engine.draw(order, silent).pixels, plain.draw(order, silent).pixels)


def test_another_checkpoint_of_the_architecture_compiles_nothing(engine: Engine) -> None:
    engine.draw(batch(), silent)
    before = graphs()
    assert before == 2, "the denoiser and the decoder"
    for model in ("tiny-flat", "tiny", "tiny-flat"):
        engine.draw(batch(row(seed=1), model=model), silent)
        engine.draw(batch(row(seed=1), model=model, steps=4), silent)
    assert graphs() == before


def test_every_shape_is_compiled_once_while_the_model_counts_as_loading(engine: Engine) -> None:
    engine.draw(batch(), silent)
    seen = [graphs()]
    for order in (batch(bucket=2), batch(width=72), batch(bucket=2), batch(width=72), batch()):
        heard: list[Progress] = []
        engine.draw(order, heard.append)
        compiles = graphs() > seen[-1]
        assert (heard[0].phase is Phase.LOADING) == compiles
        seen.append(graphs())
    assert seen[1] > seen[0]
    assert seen[2] > seen[1]
    assert seen[3:] == [seen[2]] * 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="the inductor needs a compiler for C++")
@pytest.mark.timeout(900)
def test_the_inductor_draws_the_same_picture(tiny_models: TinyModels) -> None:
    torch._dynamo.reset()
    catalog = Catalog.load(tiny_models.catalog)
    order: Batch = replace(batch(), steps=1)
    compiled, plain = (
        Engine(catalog=catalog, device="cpu", precision="fp32", compiler=compiler)
        .draw(order, silent)
        .pixels.astype(float)
        for compiler in ("inductor", None)
    )
    assert np.abs(compiled - plain).max() <= 1


def loop_inputs(*, steps: int = 2, count: int = 0, seed: int = 0) -> LoopInputs:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    negative = NegativePass(
        conditions=Conditions(text=drawn(2, 3, 4)), scales=drawn(2, 1, 1, 1), rows=torch.tensor([0, 1]), count=count
    )
    return LoopInputs(
        noise=drawn(steps, 2, 4, 8, 8),
        timesteps=torch.arange(steps),
        conditions=Conditions(text=drawn(2, 3, 4), pooled=drawn(2, 4), time_ids=drawn(2, 6)),
        guidance=Guidance(negative=negative if count else None),
    )


def test_graphs_are_told_apart_by_all_that_is_fixed_in_them_and_by_no_value() -> None:
    schedule = Schedule(alphas=(0.9, 0.5), prediction="epsilon")
    same = shape_of(schedule, loop_inputs(count=1))
    assert shape_of(schedule, loop_inputs(count=1, seed=5)) == same
    others = (loop_inputs(count=2), loop_inputs(count=0), loop_inputs(count=1, steps=3))
    assert all(shape_of(schedule, inputs) != same for inputs in others)
    assert shape_of(replace(schedule, prediction="sample"), loop_inputs(count=1)) != same
    assert len(list(tensors_of(loop_inputs(count=1)))) == 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_graph_draws_the_bits_of_the_loop_that_it_was_captured_from(tiny_models: TinyModels) -> None:
    engine = Engine(catalog=Catalog.load(tiny_models.catalog), device="cuda")
    for model, guidance in (
        ("tiny", 8.0),
        ("tiny-lora", 1.0),
        ("tiny-lora", 2.0),
        ("tiny-xl", 8.0),
        ("tiny-flat", 8.0),
    ):
        order = batch(row(guidance=guidance), model=model)
        other = batch(row(guidance=guidance, seed=3, prompt="a blue owl"), model=model)
        first, *replayed = (engine.draw(order, silent).pixels for _ in range(3))
        assert all(np.array_equal(first, again) for again in replayed)
        assert not np.array_equal(first, engine.draw(other, silent).pixels)
        assert np.array_equal(first, engine.draw(order, silent).pixels)
