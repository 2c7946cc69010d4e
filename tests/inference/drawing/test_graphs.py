"""Loops as CUDA graphs: when they are captured, what tells them apart, and that they draw the loop's own bits."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from inference.catalog import Catalog
from inference.contract import Phase, Progress
from inference.drawing import graphs as graphs_module
from inference.drawing.engine import Engine
from inference.drawing.graphs import GraphedLoop, shape_of, tensors_of
from inference.drawing.sampler import Conditions, Guidance, LoopInputs, NegativePass, iterate
from inference.schedule import Schedule
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row, silent
from tests.inference.gpu import needs_gpu

GPU = torch.device("cuda", 0)
SCHEDULE = Schedule(alphas=tuple(0.99**i for i in range(100)), prediction="epsilon")


def loop_inputs(*, steps: int = 2, count: int = 0, seed: int = 0, device: str = "cpu") -> LoopInputs:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    negative = NegativePass(
        conditions=Conditions(text=drawn(2, 3, 4)),
        scales=drawn(2, 1, 1, 1),
        rows=torch.tensor([0, 1], device=device),
        count=count,
    )
    return LoopInputs(
        noise=drawn(steps, 2, 4, 8, 8),
        timesteps=torch.arange(steps, device=device),
        conditions=Conditions(text=drawn(2, 3, 4), pooled=drawn(2, 4), time_ids=drawn(2, 6)),
        guidance=Guidance(negative=negative if count else None),
    )


def test_graphs_are_told_apart_by_all_that_is_fixed_in_them_and_by_no_value() -> None:
    same = shape_of(SCHEDULE, loop_inputs(count=1))
    assert shape_of(SCHEDULE, loop_inputs(count=1, seed=5)) == same
    others = (loop_inputs(count=2), loop_inputs(count=0), loop_inputs(count=1, steps=3))
    assert all(shape_of(SCHEDULE, inputs) != same for inputs in others)
    assert shape_of(replace(SCHEDULE, prediction="sample"), loop_inputs(count=1)) != same
    assert len(list(tensors_of(loop_inputs(count=1)))) == 8


def graphs_of(engine: Engine) -> int:
    """How many there are."""
    assert isinstance(engine._tools.loop, GraphedLoop)
    return len(engine._tools.loop)


@needs_gpu
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
        heard: list[Progress] = []
        assert np.array_equal(first, engine.draw(order, heard.append).pixels)
        assert [news.step for news in heard if news.phase is Phase.DRAWING] == [0, 2], "by a graph"


@needs_gpu
def test_graphs_give_way_before_a_batch_is_made_smaller(tiny_models: TinyModels) -> None:
    engine = Engine(catalog=Catalog.load(tiny_models.catalog), device="cuda")
    for _ in range(3):
        engine.draw(batch(), silent)
    assert graphs_of(engine)

    def refuse(*_: Any) -> None:
        if graphs_of(engine):
            raise torch.OutOfMemoryError("CUDA out of memory")

    for slot in engine._models._shelves._slots.values():
        slot.network.register_forward_pre_hook(refuse)
    drawn = engine.draw(batch(row(0), row(1), bucket=2), silent)
    assert {recipe.bucket for recipe in drawn.recipes} == {2}


class Network(torch.nn.Module):
    """A denoiser's signature around one convolution."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, **_: Any) -> tuple[Any]:
        return (self.convolution(sample) * text.mean(dim=(1, 2)).reshape(-1, 1, 1, 1) + timestep.float() * 1e-3,)


@pytest.fixture
def network() -> Iterator[Network]:
    with torch.inference_mode():
        yield Network().to("cuda")


def heard_by(loop: GraphedLoop, network: Network, inputs: LoopInputs) -> tuple[torch.Tensor, list[int]]:
    steps: list[int] = []
    return loop(network, SCHEDULE, inputs, lambda step, estimate: steps.append(step)), steps


def plain(network: Network, inputs: LoopInputs) -> torch.Tensor:
    return iterate(network, SCHEDULE, inputs, lambda step, estimate: None)


@needs_gpu
def test_from_the_second_time_on_a_shape_is_drawn_by_its_graph_whatever_the_values(network: Network) -> None:
    loop = GraphedLoop(GPU)
    for seed, count in ((1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (1, 0)):
        inputs = loop_inputs(seed=seed, count=count, device="cuda")
        latents, _ = heard_by(loop, network, inputs)
        assert torch.equal(latents, plain(network, inputs))
    assert len(loop) == 2
    assert heard_by(loop, network, loop_inputs(device="cuda"))[1] == [0, 2]


@needs_gpu
def test_a_graph_computes_with_the_weights_that_are_there_when_it_draws(network: Network) -> None:
    loop, inputs = GraphedLoop(GPU), loop_inputs(device="cuda")
    for _ in range(2):
        loop(network, SCHEDULE, inputs, lambda step, estimate: None)
    network.convolution.weight.copy_(torch.randn_like(network.convolution.weight))
    assert torch.equal(heard_by(loop, network, inputs)[0], plain(network, inputs))


@needs_gpu
def test_a_graph_that_had_to_go_comes_back_only_after_a_while(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs_module, "PATIENCE", 3)
    loop, inputs = GraphedLoop(GPU), loop_inputs(device="cuda")
    plainly, by_its_graph = [0, 1, 2], [0, 2]
    assert [heard_by(loop, network, inputs)[1] for _ in range(2)] == [plainly, by_its_graph]
    for _ in range(2):
        loop.clear()
        steps = [heard_by(loop, network, inputs)[1] for _ in range(5)]
        assert steps == [plainly, plainly, plainly, by_its_graph, by_its_graph]


@needs_gpu
def test_after_all_graphs_have_gone_there_are_new_ones(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_module, "PATIENCE", 1)
    loop = GraphedLoop(GPU)
    for seed in range(3):
        inputs = loop_inputs(seed=seed, device="cuda")
        for _ in range(3):
            assert torch.equal(heard_by(loop, network, inputs)[0], plain(network, inputs))
        assert len(loop) == 1
        loop.clear()
        assert len(loop) == 0
    short_lived = Network(seed=1).to("cuda")
    for _ in range(2):
        heard_by(loop, short_lived, loop_inputs(device="cuda"))
    assert len(loop) == 1
    del short_lived
    gc.collect()
    assert len(loop) == 0


@needs_gpu
def test_a_network_may_leave_the_device_while_the_loop_of_another_is_captured(network: Network) -> None:
    """A model that is read ahead makes room for itself at any time. All graphs share the memory of the first."""

    class Displacing(Network):
        def forward(self, *arguments: Any, **options: Any) -> tuple[Any]:
            if len(loop):
                others.clear()
                gc.collect()
            return super().forward(*arguments, **options)

    loop, inputs = GraphedLoop(GPU), loop_inputs(device="cuda")
    others, displacing = [Network(seed=1).to("cuda")], Displacing().to("cuda")
    heard_by(loop, displacing, inputs)
    for _ in range(2):
        heard_by(loop, others[0], inputs)
    for _ in range(2):
        latents, steps = heard_by(loop, displacing, inputs)
        assert steps == [0, 2]
        assert torch.equal(latents, plain(network, inputs))
    assert not others


@needs_gpu
def test_no_more_graphs_of_a_network_are_kept_than_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_module, "KEPT", 2)
    loop = GraphedLoop(GPU)
    for steps in (1, 2, 3, 1):
        inputs = loop_inputs(steps=steps, device="cuda")
        for _ in range(3):
            assert torch.equal(heard_by(loop, network, inputs)[0], plain(network, inputs))
        assert len(loop) <= 2


@needs_gpu
def test_a_graph_that_multiplies_matrices_draws_on_after_others_have_gone(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Multiplying(Network):
        """Few numbers from long sums, for which cuBLAS takes a workspace; with a bias it goes by another way."""

        def __init__(self) -> None:
            super().__init__()
            self.plain, self.biased = torch.nn.Linear(4096, 64, bias=False), torch.nn.Linear(4096, 64)

        def forward(self, sample: torch.Tensor, *arguments: Any, **options: Any) -> tuple[Any]:
            (drawn,) = super().forward(sample, *arguments, **options)
            long = drawn.reshape(-1, 1).repeat(1, 4096)
            return ((self.plain(long) + self.biased(long)).mean(dim=1).reshape(drawn.shape),)

    monkeypatch.setattr(graphs_module, "KEPT", 2)
    loop, multiplying = GraphedLoop(GPU), Multiplying().to("cuda")
    shapes = [loop_inputs(steps=steps, device="cuda") for steps in (1, 2, 3, 4)]
    expected = [plain(multiplying, inputs) for inputs in shapes]
    for inputs in shapes:
        for _ in range(2):
            heard_by(loop, multiplying, inputs)
    assert len(loop) == 2
    torch.cuda.empty_cache()
    for inputs, latents in zip(shapes[2:], expected[2:], strict=True):
        drawn, steps = heard_by(loop, multiplying, inputs)
        assert steps == [0, len(inputs.noise)], "by its graph"
        assert torch.equal(drawn, latents)


@needs_gpu
def test_a_slow_shape_has_news_of_every_step_until_it_has_been_quick_once(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, inputs = GraphedLoop(GPU), loop_inputs(device="cuda")
    monkeypatch.setattr(graphs_module, "QUICK_S", 0.0)
    assert [heard_by(loop, network, inputs)[1] for _ in range(3)] == [[0, 1, 2]] * 3
    monkeypatch.undo()
    assert [heard_by(loop, network, inputs)[1] for _ in range(3)] == [[0, 1, 2], [0, 2], [0, 2]]


@needs_gpu
def test_a_graph_that_there_was_no_memory_for_is_not_tried_again_until_all_have_gone(network: Network) -> None:
    class Large(Network):
        attempts = 0

        def forward(self, sample: torch.Tensor, *arguments: Any, **options: Any) -> tuple[Any]:
            if torch.cuda.current_stream() != torch.cuda.default_stream():
                Large.attempts += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(sample, *arguments, **options)

    loop, inputs, large = GraphedLoop(GPU), loop_inputs(device="cuda"), Large().to("cuda")
    for attempts in (1, 2):
        for _ in range(4):
            assert torch.equal(heard_by(loop, large, inputs)[0], plain(large, inputs))
        assert (Large.attempts, len(loop)) == (attempts, 0)
        loop.clear()
    for _ in range(2):
        heard_by(loop, network, inputs)
    assert len(loop) == 1


@needs_gpu
def test_what_cannot_be_captured_is_drawn_without_a_graph_and_so_is_all_that_has_none_yet(network: Network) -> None:
    class Waiting(Network):
        def forward(self, sample: torch.Tensor, *arguments: Any, **options: Any) -> tuple[Any]:
            torch.cuda.current_stream().synchronize()
            return super().forward(sample, *arguments, **options)

    loop, inputs, waiting = GraphedLoop(GPU), loop_inputs(device="cuda"), Waiting().to("cuda")
    for drawing in (network, waiting, network, Network(seed=2).to("cuda")):
        for _ in range(3):
            assert torch.equal(heard_by(loop, drawing, inputs)[0], plain(drawing, inputs))
        assert len(loop) == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@needs_gpu
def test_what_a_capture_that_failed_has_taken_is_given_back_and_nothing_else(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(Network):
        def forward(self, sample: torch.Tensor, *arguments: Any, **options: Any) -> tuple[Any]:
            drawn = super().forward(sample, *arguments, **options)
            torch.cuda.current_stream().synchronize()
            return drawn

    monkeypatch.setattr(graphs_module.log, "disabled", True)  # pytest keeps warnings with all that they were raised in
    before, loop, inputs = pools(), GraphedLoop(GPU), loop_inputs(device="cuda")
    for drawing in (network, Waiting().to("cuda")):
        for _ in range(3):
            heard_by(loop, drawing, inputs)
    assert len(loop) == 1
    torch.cuda.empty_cache()
    drawn, steps = heard_by(loop, network, inputs)
    assert steps == [0, 2], "by its graph"
    assert torch.equal(drawn, plain(network, inputs))
    loop.clear()
    torch.cuda.empty_cache()
    assert pools() <= before


def pools() -> set[tuple[int, int]]:
    """Those of torch's allocator that have memory: one for all, and what graphs are captured in."""
    return {segment["segment_pool_id"] for segment in torch.cuda.memory_snapshot()}
