"""Whole sampling loops as CUDA graphs: one launch instead of some thousand, which is what a lone picture waits for.

A loop is captured when its shape comes the second time, and only if the first time was quick: slow devices gain
nothing, and in a graph there is no news between two steps.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inference.devices import is_out_of_memory
from inference.sampler import Conditions, Guidance, LoopInputs, OnStep, Schedule, iterate

log = logging.getLogger("inference.graphs")

QUICK_S = 2.0
KEPT = 16
"""Graphs of one network: their inputs and results take memory, megabytes each."""
Shape: TypeAlias = tuple[Schedule, tuple[tuple[torch.Size, torch.dtype], ...], int]


class GraphedLoop:
    """Samples like ``inference.sampler.sample``, on a CUDA device, in one thread.

    Graphs refer to the addresses of a network's weights, which stay as long as the network does.
    """

    def __init__(self) -> None:
        self._graphs: WeakKeyDictionary[Any, OrderedDict[Shape, _Captured | None]] = WeakKeyDictionary()
        self._pool = torch.cuda.graph_pool_handle()

    def clear(self) -> None:
        """Give back the memory of all graphs."""
        self._graphs.clear()

    def __call__(
        self,
        network: Any,
        schedule: Schedule,
        noise: Tensor,
        conditions: Conditions,
        guidance: Guidance,
        on_step: OnStep,
    ) -> Tensor:
        """See ``inference.sampler.sample``; from the second time on, ``on_step`` is only called with 0 and at the
        end."""
        timesteps = torch.tensor(schedule.timesteps(noise.shape[0]), device=noise.device)
        inputs = LoopInputs(noise=noise, timesteps=timesteps, conditions=conditions, guidance=guidance)
        graphs = self._graphs.setdefault(network, OrderedDict())
        shape = shape_of(schedule, inputs)
        if shape not in graphs:
            return self._first(graphs, shape, network, schedule, inputs, on_step)
        if graphs[shape] is None:
            graphs[shape] = self._capture(network, schedule, inputs)
        graphs.move_to_end(shape)
        captured = graphs[shape]
        if captured is None:
            return iterate(network, schedule, inputs, on_step)
        on_step(0, None)
        latents = captured.replay(inputs)
        on_step(noise.shape[0], latents)
        return latents

    def _first(
        self,
        graphs: OrderedDict[Shape, _Captured | None],
        shape: Shape,
        network: Any,
        schedule: Schedule,
        inputs: LoopInputs,
        on_step: OnStep,
    ) -> Tensor:
        started = time.perf_counter()
        latents = iterate(network, schedule, inputs, on_step)
        torch.cuda.synchronize(inputs.noise.device)
        if time.perf_counter() - started < QUICK_S:
            graphs[shape] = None
        if len(graphs) > KEPT:
            graphs.popitem(last=False)
        return latents

    def _capture(self, network: Any, schedule: Schedule, inputs: LoopInputs) -> _Captured | None:
        try:
            return _Captured(network, schedule, inputs, self._pool)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning("a loop could not be captured as a graph", exc_info=True)
            return None


class _Captured:
    """A graph with the memory that it reads from and writes to."""

    def __init__(self, network: Any, schedule: Schedule, inputs: LoopInputs, pool: Any) -> None:
        self._inputs = _cloned(inputs)
        device = inputs.noise.device
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            iterate(network, schedule, self._inputs, _nobody)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._latents = iterate(network, schedule, self._inputs, _nobody)

    def replay(self, inputs: LoopInputs) -> Tensor:
        """The latents for other inputs of the same shape."""
        for mine, theirs in zip(tensors_of(self._inputs), tensors_of(inputs), strict=True):
            mine.copy_(theirs)
        self._graph.replay()
        return self._latents.clone()


def shape_of(schedule: Schedule, inputs: LoopInputs) -> Shape:
    """What has to agree for a graph to serve other inputs."""
    negative = inputs.guidance.negative
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(inputs))
    return schedule, shapes, negative.count if negative else 0


def tensors_of(inputs: Any) -> Iterator[Tensor]:
    """Every tensor in nested dataclasses, always in the same order."""
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            yield value
        elif is_dataclass(value):
            yield from tensors_of(value)


def _cloned(inputs: Any) -> Any:
    changes = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value.clone()
        elif is_dataclass(value):
            changes[field.name] = _cloned(value)
    return replace(inputs, **changes)


def _nobody(step: int, estimate: Tensor | None) -> None:
    """Listens while a graph is captured."""
