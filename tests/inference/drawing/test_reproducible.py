"""The same recipe gives the same bits, on the built-in model as the bot runs it: whatever shares the batch, whichever
models were switched to in between, and wherever the weights had gone meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.batching import guided_bucket_for
from inference.catalog import Catalog
from inference.contract import Adapter, Batch, Row, Variation
from inference.drawing.engine import Engine
from inference.drawing.graphs import GraphedLoop
from inference.memory.budgets import Budgets
from inference.pictures.recipe import Recipe
from tests.inference.batches import batch, row
from tests.inference.gpu import ON_GPU_TOO

CATALOG = Path(__file__).resolve().parents[3] / "models" / "models.toml"
ROOM_FOR_TWO = 55_000_000
LONG = "a cat and an owl and a rocket and " * 4
"""More than the built-in models read at once."""
PROMPTS = ("a red apple", "a (blue:1.3) owl", "a cat on a green background", LONG)
NATIVE, GUIDED = (3.0, 8.0, 13.0), (1.0, 1.4, 2.0)
CHOICES: tuple[tuple[str, tuple[Adapter, ...], tuple[float, ...]], ...] = (
    ("emoji", (), NATIVE),
    ("emoji-lora", (), GUIDED),
    ("emoji-lora", (Adapter(name="flat", strength=0.6),), GUIDED),
    ("emoji-flat", (), GUIDED),
    ("emoji-ink", (), GUIDED),
)
"""Models with LoRAs on top, and the guidances that they are asked for."""


class Easel:
    """An engine that has room for two of the models, and remembers what each recipe gave the first time."""

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu") -> None:
        budgets = Budgets(device=ROOM_FOR_TWO, host=0, disk=10**9, folder=folder)
        self.engine = Engine(catalog=Catalog.load(CATALOG), device=device, budgets=budgets, threads=threads)
        self.first: dict[Batch, str] = {}

    def draw(self, order: Batch) -> list[tuple[str, Recipe]]:
        """Hashes of the pixels of every row, with their recipes."""
        drawn = self.engine.draw(order, lambda progress: None)
        hashes = (hashlib.sha256(picture.tobytes()).hexdigest() for picture in drawn.pixels)
        return list(zip(hashes, drawn.recipes, strict=True))

    def alone(self, mine: Row, recipe: Recipe) -> str:
        """What the row gives with nothing else in the buckets that its recipe tells."""
        own = batch(
            mine,
            model=recipe.model,
            adapters=recipe.adapters,
            steps=recipe.steps,
            bucket=recipe.bucket,
            guided_bucket=recipe.guided_bucket or guided_bucket_for([mine]),
        )
        if own not in self.first:
            [(self.first[own], again)] = self.draw(own)
            assert again == recipe
        return self.first[own]


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def threaded_easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Easel]:
    before = torch.get_num_threads()
    yield Easel(tmp_path_factory.mktemp("weights"), threads=2)
    torch.set_num_threads(before)


@pytest.mark.timeout(900)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_row_is_the_same_in_any_company_after_any_switch(easel: Easel, data: st.DataObject) -> None:
    assert_same_in_company(easel, data)


@pytest.mark.timeout(900)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_that_holds_for_several_threads_too(threaded_easel: Easel, data: st.DataObject) -> None:
    assert_same_in_company(threaded_easel, data)


def assert_same_in_company(easel: Easel, data: st.DataObject) -> None:
    """Of one row of a random batch, perhaps with another model coming up beside it."""

    def drawn_row(index: int) -> Row:
        return row(
            index,
            prompt=data.draw(st.sampled_from(PROMPTS)),
            negative=data.draw(st.sampled_from(["", "blue", LONG])),
            seed=data.draw(st.sampled_from([0, 7])),
            guidance=data.draw(st.sampled_from(guidances)),
            variation=data.draw(st.sampled_from([None, Variation(seed=5, strength=0.2)])),
        )

    model, adapters, guidances = data.draw(st.sampled_from(CHOICES))
    bucket = data.draw(st.sampled_from([1, 2, 4]))
    rows = tuple(drawn_row(index) for index in range(data.draw(st.integers(1, bucket))))
    order = batch(
        *rows,
        model=model,
        adapters=adapters,
        steps=data.draw(st.sampled_from([1, 2])),
        bucket=bucket,
        guided_bucket=guided_bucket_for(rows),
    )
    if data.draw(st.booleans()):
        coming, on_top, _ = data.draw(st.sampled_from(CHOICES))
        easel.engine.prefetch(coming, on_top)
    place = data.draw(st.integers(0, len(rows) - 1))
    drawn, recipe = easel.draw(order)[place]
    assert drawn == easel.alone(rows[place], recipe)


@pytest.fixture(scope="module", params=ON_GPU_TOO)
def any_easel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(tmp_path_factory.mktemp("weights"), device=request.param)


@pytest.mark.parametrize(("model", "guidances"), [("emoji", NATIVE), ("emoji-lora", GUIDED)])
def test_on_any_device_a_row_is_the_same_at_any_place_and_after_its_model_has_left(
    any_easel: Easel, model: str, guidances: tuple[float, ...]
) -> None:
    """On a GPU each batch is drawn by a graph as well, the third time at the latest."""
    low, middle, high = guidances
    mine, guided = row(guidance=high), row(1, prompt="a rocket", seed=1, guidance=middle)
    others = [row(index, prompt=PROMPTS[index], seed=index, guidance=low) for index in (1, 2)]
    away, loop = batch(model="emoji-flat"), any_easel.engine._tools.loop
    times, graphs = (3, loop) if isinstance(loop, GraphedLoop) else (1, None)
    for _ in range(2):
        for rows in ((mine,), (guided, mine), (*others, guided, mine), (mine, guided, *others)):
            for _ in range(times):
                drawn, recipe = any_easel.draw(batch(*rows, model=model))[rows.index(mine)]
                assert drawn == any_easel.alone(mine, recipe)
            assert graphs is None or len(graphs) > 0
        any_easel.draw(away)
        any_easel.engine._models.free(keep=(away.model, ()))
        assert model not in any_easel.engine.resident


@pytest.mark.parametrize(("model", "guidance"), [("emoji", 8.0), ("emoji-lora", 1.0), ("emoji-lora", 1.5)])
def test_in_another_bucket_it_is_the_same_picture(easel: Easel, model: str, guidance: float) -> None:
    mine = row(guidance=guidance)
    pictures = [
        easel.engine.draw(
            batch(mine, model=model, steps=4, bucket=bucket, width=128, height=128), lambda _: None
        ).pixels
        for bucket in (1, 2, 4, 8)
    ]
    errors = [np.square(pictures[0].astype(float) - other.astype(float)).mean() for other in pictures[1:]]
    assert all(error < 255**2 / 10**4 for error in errors), "40 dB"
