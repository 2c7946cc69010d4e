"""Compiled networks: the same pictures, one graph for every shape, and none for another checkpoint.

``eager`` is the compiler that traces and generates nothing: what is traced is what matters here, and it takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo

from inference.catalog import Catalog
from inference.contract import Batch, Phase, Progress
from inference.drawing.engine import Engine
from inference.memory import slot
from tests.checkpoints import TinyModels
from tests.compiler import needs_a_compiler
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


def test_shapes_beyond_those_that_are_compiled_are_drawn_all_the_same(
    engine: Engine, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "SHAPES", 1)
    plain = Engine(catalog=Catalog.load(tiny_models.catalog), device="cpu", precision="fp32")
    with torch._dynamo.config.patch(recompile_limit=1):
        engine.draw(batch(), silent)
        compiled = graphs()
        for order in (batch(width=72), batch(width=80), batch()):
            assert np.array_equal(engine.draw(order, silent).pixels, plain.draw(order, silent).pixels)
        assert graphs() == compiled


@needs_a_compiler
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
