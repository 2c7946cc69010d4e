"""Whole sampling loops as CUDA graphs: one launch instead of some thousand, which is what a lone picture waits for.

A loop is captured once its shape has been drawn quickly: slow devices gain nothing, and in a graph there is no news
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
"""What takes longer gains nothing from a graph."""
KEPT = 16
"""Graphs of one network: their inputs and results take memory, megabytes each."""
_KEEPS_SHARES = torch.__version__.partition("+")[0] == "2.13.0"
Shape: TypeAlias = tuple[Schedule, tuple[tuple[torch.Size, torch.dtype], ...], int]


@dataclass(slots=True)
class _Known:
    """What there is of one network: graphs, the one used last at the end; shapes that have been quick; and of these
    the ones for whose graphs there was no memory."""

    graphs: OrderedDict[Shape, _Captured] = field(default_factory=OrderedDict)
    quick: set[Shape] = field(default_factory=set)
    too_large: set[Shape] = field(default_factory=set)

    def wants_graph(self, shape: Shape) -> bool:
        return shape in self.quick and shape not in self.too_large and shape not in self.graphs


def can_capture(device: torch.device) -> bool:
    """Whether loops are captured on ``device``: not by ROCm, whose runtimes break captures off when other threads ask
    for memory."""
    return device.type == "cuda" and torch.version.hip is None


class GraphedLoop:
    """Does what ``sampler.iterate`` does, on a CUDA device, in one thread; of a shape that has a graph, ``on_step`` is
    only called with 0 and at the end.

    Graphs refer to the addresses of a network's weights, which stay as long as the network does.
    """

    def __init__(self, device: torch.device) -> None:
        self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._is_broken = False

    def __len__(self) -> int:
        """How many graphs there are."""
        return sum(len(known.graphs) for known in self._known.values())

    def clear(self) -> None:
        """Give back the memory of all graphs."""
        self._known.clear()

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
        try:
            known.graphs[shape] = _Captured(network, schedule, inputs, self._stream, self._pool())
        except (RuntimeError, AttributeError) as error:  # the latter where torch has other names for its own
            if is_out_of_memory(error):  # a graph takes some of its own; without it there may be enough
                known.too_large.add(shape)
                log.info("no memory for a graph: %s", error)
                return
            log.warning("a loop could not be captured as a graph; there will be no more graphs", exc_info=True)
            self._is_broken = True
        if len(known.graphs) > KEPT:
            known.graphs.popitem(last=False)

    def _pool(self) -> Any:
        """The memory that all graphs share, as only one draws at a time. Where there is none, a new pool: torch refuses
        one that its last graph has left."""
        present = next((graph for known in self._known.values() for graph in known.graphs.values()), None)
        return present.pool if present else torch.cuda.graph_pool_handle()


def _timed(
    known: _Known, shape: Shape, network: Any, schedule: Schedule, inputs: LoopInputs, on_step: OnStep
) -> Tensor:
    """Without a graph, and whether one would be worth it: a first time may well be slow by itself."""
    started = time.perf_counter()
    latents = iterate(network, schedule, inputs, on_step)
    torch.cuda.synchronize(inputs.noise.device)
    if time.perf_counter() - started < QUICK_S:
        known.quick.add(shape)
    return latents


class _Captured:
    """A graph with the memory that it reads from and writes to."""

    def __init__(self, network: Any, schedule: Schedule, inputs: LoopInputs, stream: Any, pool: Any) -> None:
        """The loop runs once before it is captured: what libraries set up in a stream's first run must not be in the
        graph. Other threads may bring models up meanwhile."""
        self._inputs = _cloned(inputs)
        self._graph = torch.cuda.CUDAGraph()
        present, has_begun = torch.cuda.current_stream(stream.device), False
        stream.wait_stream(present)
        try:
            with torch.cuda.stream(stream):  # and back to the present one, which torch forgets where capturing fails
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
        """Where its memory is from."""
        return self._graph.pool()

    def replay(self, inputs: LoopInputs) -> Tensor:
        """The latents for other inputs of the same shape."""
        for mine, theirs in zip(tensors_of(self._inputs), tensors_of(inputs), strict=True):
            mine.copy_(theirs)
        self._graph.replay()
        return self._latents.clone()


@contextlib.contextmanager
def _workspaces_from_the_pool() -> Iterator[None]:
    """What is captured multiplies matrices in memory of the graphs' own pool, which stays as long as any of them.

    torch keeps a workspace for each stream, whose address gets into the graphs. Newer ones give it back with the first
    graph that goes, and the others would calculate in memory that is no longer there.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _forget_capture(graph: torch.cuda.CUDAGraph, device: int, pool: Any, *, has_begun: bool) -> None:
    """Where CUDA breaks a capture off, torch's allocator goes on believing in it, and then gives no memory back that
    another stream has read, ever again; and the graph's share keeps the pool.

    torch 2.13.0 sees to all but the share, 2.14 to that as well. One that is given back twice is another graph's.
    """
    has_ended = _has_ended(graph)
    graph.reset()
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # torch has seen to that
        if has_ended or not has_begun or not _KEEPS_SHARES:
            return
    torch._C._cuda_releasePool(device, pool)


def _has_ended(graph: torch.cuda.CUDAGraph) -> bool:
    """Whether its capture ended as it should: then it gives its share of the pool back by itself."""
    try:
        graph.pool()
    except RuntimeError:
        return False
    return True


def shape_of(schedule: Schedule, inputs: LoopInputs) -> Shape:
    """What has to agree for a graph to serve other inputs."""
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
    """Listens while a graph is captured."""
