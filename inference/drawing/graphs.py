"""Whole sampling loops as CUDA graphs: one launch instead of some thousand, which dominate the time of a lone picture.

A loop is captured once its shape has been drawn quickly: slow devices gain nothing, and a graph reports no progress
between two steps.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inference.devices import is_out_of_memory
from inference.drawing.sampler import LoopInputs, OnStep, iterate
from inference.schedule import Schedule

log = logging.getLogger(__name__)

QUICK_S = 2.0
"""Seconds; loops that take longer gain nothing from a graph."""
KEPT = 16
"""Graphs kept per network: the inputs and results of each take megabytes."""
PATIENCE = 16
"""Quick drawings until a shape whose graph had to go gets one again. Where memory stays short, that graph has to go as
well, and capturing takes as long as two drawings."""
_KEEPS_SHARES = torch.__version__.partition("+")[0] == "2.13.0"
Shape: TypeAlias = tuple[Schedule, tuple[tuple[torch.Size, torch.dtype], ...], int]


@dataclass(slots=True)
class _Known:
    """State of one network: its graphs, most recently used last; how many quick drawings shapes without one still lack
    for it; and the shapes for whose graphs there was not enough memory."""

    graphs: OrderedDict[Shape, _Captured] = field(default_factory=OrderedDict)
    lacking: dict[Shape, int] = field(default_factory=dict)
    too_large: set[Shape] = field(default_factory=set)

    def wants_graph(self, shape: Shape) -> bool:
        return self.lacking.get(shape) == 0 and shape not in self.too_large and shape not in self.graphs

    def was_quick(self, shape: Shape) -> None:
        self.lacking[shape] = max(0, self.lacking.get(shape, 1) - 1)

    def clear(self) -> None:
        self.lacking.update(dict.fromkeys(self.graphs, PATIENCE))
        self.too_large.clear()
        self.graphs.clear()


def can_capture(device: torch.device) -> bool:
    """Whether loops are captured on ``device``. Not with ROCm, whose runtimes abort a capture when another thread
    allocates memory."""
    return device.type == "cuda" and torch.version.hip is None


class GraphedLoop:
    """Does what ``sampler.iterate`` does, on a CUDA device, in one thread; for a shape that has a graph, ``on_step`` is
    only called with 0 and at the end.

    Graphs refer to the addresses of a network's weights, which stay the same as long as the network lives.
    """

    def __init__(self, device: torch.device) -> None:
        self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._is_broken = False

    def __len__(self) -> int:
        """The number of graphs."""
        return sum(len(known.graphs) for known in self._known.values())

    def clear(self) -> None:
        """Free the memory of all graphs, because it is needed."""
        for known in self._known.values():
            known.clear()

    def __call__(self, network: Any, schedule: Schedule, inputs: LoopInputs, on_step: OnStep) -> Tensor:
        known, shape = self._known.setdefault(network, _Known()), shape_of(schedule, inputs)
        if known.wants_graph(shape) and not self._is_broken:
            self._capture(known, shape, network, schedule, inputs)
        if shape not in known.graphs:
            return _timed(known, shape, network, schedule, inputs, on_step)
        known.graphs.move_to_end(shape)
        on_step(0, None)
        latents = known.graphs[shape].replay(inputs)
        on_step(len(inputs.noise), latents)
        return latents

    def _capture(self, known: _Known, shape: Shape, network: Any, schedule: Schedule, inputs: LoopInputs) -> None:
        present = self._any_graph()
        pool = present.pool if present else torch.cuda.graph_pool_handle()
        try:
            known.graphs[shape] = _Captured(network, schedule, inputs, self._stream, pool)
        except (RuntimeError, AttributeError) as error:  # the latter if torch has renamed its private functions
            if is_out_of_memory(error):  # a graph needs extra memory; without one there may be enough
                known.too_large.add(shape)
                log.info("no memory for a graph: %s", error)
                return
            log.warning("a loop could not be captured as a graph; there will be no more graphs", exc_info=True)
            self._is_broken = True
        if len(known.graphs) > KEPT:
            known.graphs.popitem(last=False)

    def _any_graph(self) -> _Captured | None:
        """One of the graphs, which share a memory pool, as only one replays at a time. To be kept while another is
        captured: torch refuses a pool whose last graph is gone, and a network can leave the device meanwhile."""
        return next((graph for known in self._known.values() for graph in known.graphs.values()), None)


def _timed(
    known: _Known, shape: Shape, network: Any, schedule: Schedule, inputs: LoopInputs, on_step: OnStep
) -> Tensor:
    """Run without a graph; a quick run makes the shape worth one, but a slow first run does not rule it out."""
    started = time.perf_counter()
    latents = iterate(network, schedule, inputs, on_step)
    torch.cuda.synchronize(inputs.noise.device)
    if time.perf_counter() - started < QUICK_S:
        known.was_quick(shape)
    return latents


class _Captured:
    """A graph with its input and output memory."""

    def __init__(self, network: Any, schedule: Schedule, inputs: LoopInputs, stream: Any, pool: Any) -> None:
        """Runs the loop once before capturing it: what libraries set up on a stream's first run must not be in the
        graph. Other threads may load models meanwhile."""
        self._inputs = _cloned(inputs)
        self._graph = torch.cuda.CUDAGraph()
        present, has_begun = torch.cuda.current_stream(stream.device), False
        stream.wait_stream(present)
        try:
            with torch.cuda.stream(stream):  # restores the current stream; torch does not if capture fails
                iterate(network, schedule, self._inputs, _nobody)
                with (
                    _workspaces_from_the_pool(),
                    torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
                ):
                    has_begun = True
                    self._latents = iterate(network, schedule, self._inputs, _nobody)
        except RuntimeError:
            _forget_capture(self._graph, stream.device.index, pool, has_begun=has_begun)
            raise
        finally:
            present.wait_stream(stream)

    @property
    def pool(self) -> Any:
        """The memory pool that it was captured in."""
        return self._graph.pool()

    def replay(self, inputs: LoopInputs) -> Tensor:
        """The latents for other inputs of the same shape."""
        for mine, theirs in zip(tensors_of(self._inputs), tensors_of(inputs), strict=True):
            mine.copy_(theirs)
        self._graph.replay()
        return self._latents.clone()


@contextlib.contextmanager
def _workspaces_from_the_pool() -> Iterator[None]:
    """Captured matrix products use workspaces from the graphs' own pool, which lives as long as any graph.

    torch keeps one workspace per stream, and the graphs record its address. Newer versions free it with the first graph
    that is deleted, and the others would compute in freed memory.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _forget_capture(graph: torch.cuda.CUDAGraph, device: int, pool: Any, *, has_begun: bool) -> None:
    """After CUDA aborts a capture, torch's allocator believes that it is still going on, and never again frees memory
    that another stream has read; and the graph's reference keeps the pool alive.

    torch 2.13.0 handles all but the reference, 2.14 that as well. Releasing it twice would release another graph's.
    """
    has_ended = _has_ended(graph)
    graph.reset()
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # torch has done so already
        if has_ended or not has_begun or not _KEEPS_SHARES:
            return
    torch._C._cuda_releasePool(device, pool)


def _has_ended(graph: torch.cuda.CUDAGraph) -> bool:
    """Whether its capture ended normally: then it releases its reference to the pool by itself."""
    try:
        graph.pool()
    except RuntimeError:
        return False
    return True


def shape_of(schedule: Schedule, inputs: LoopInputs) -> Shape:
    """What must match for a graph to serve other inputs."""
    negative = inputs.guidance.negative
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(inputs))
    return schedule, shapes, negative.count if negative else 0


def tensors_of(inputs: Any) -> Iterator[Tensor]:
    """Every tensor in nested dataclasses, always in the same order."""
    for each in fields(inputs):
        value = getattr(inputs, each.name)
        if isinstance(value, Tensor):
            yield value
        elif is_dataclass(value):
            yield from tensors_of(value)


def _cloned(inputs: Any) -> Any:
    changes = {}
    for each in fields(inputs):
        value = getattr(inputs, each.name)
        if isinstance(value, Tensor):
            changes[each.name] = value.clone()
        elif is_dataclass(value):
            changes[each.name] = _cloned(value)
    return replace(inputs, **changes)


def _nobody(step: int, estimate: Tensor | None) -> None:
    """The ``on_step`` of a capture: does nothing."""
