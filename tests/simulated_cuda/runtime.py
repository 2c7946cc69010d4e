"""What ``torch.cuda`` offers besides tensors: streams, events and graphs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)


class _InThisThread(threading.local):
    stream: Stream | None = None
    capturing: Graph | None = None


_here = _InThisThread()


class Stream:
    """Everything is done at once, so there is nothing to wait for."""

    def __init__(self, device: object = DEVICE, priority: int = 0) -> None:
        self.device = DEVICE

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)

    def wait_event(self, event: Event) -> None:
        assert event.recorded, "CUDA would not wait for it"

    def record_event(self) -> Event:
        event = Event()
        event.recorded = True
        return event

    def synchronize(self) -> None:
        wait_for_the_device()


class Event:
    recorded = False


class InStream:
    """``torch.cuda.stream``."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        self._before = _here.stream
        _here.stream = self._stream or _here.stream

    def __exit__(self, *_: object) -> None:
        _here.stream = self._before


_default = Stream()


def default_stream(device: object = None) -> Stream:
    return _default


def current_stream(device: object = None) -> Stream:
    return _here.stream or _default


def wait_for_the_device(device: object = None) -> None:
    """Fails during a capture, as does whatever reads a value back from the device."""
    if _here.capturing is not None:
        _here.capturing.is_broken = True
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@dataclass(frozen=True, slots=True)
class _Operation:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: list[Tensor]

    def again(self) -> None:
        """Into the memory of the first time."""
        made = tensors_in(self.function(*self.arguments, **self.options))
        for old, new in zip(self.results, made, strict=True):
            if address(old) != address(new):
                old.copy_(new)


class Graph:
    """``torch.cuda.CUDAGraph``: the operations of a capture, on host tensors."""

    _numbers = itertools.count(1)
    _alive: ClassVar[WeakSet[Graph]] = WeakSet()
    _used: ClassVar[set[Any]] = set()

    def __init__(self) -> None:
        self._alive.add(self)
        self._operations: list[_Operation] = []
        self._pool: Any = None
        self.is_broken = False

    @classmethod
    def new_pool(cls) -> tuple[int, int]:
        return 0, next(cls._numbers)

    def capture_begin(self, pool: Any = None, **_: Any) -> None:
        assert _here.capturing is None
        if pool in self._used and not any(graph._pool == pool for graph in self._alive):
            raise RuntimeError("captures_underway and use_count of a pool whose last graph is gone")
        self._asked_for = pool or self.new_pool()
        _here.capturing = self

    def capture_end(self) -> None:
        _here.capturing = None
        if self.is_broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self._pool = self._asked_for
        self._used.add(self._pool)
        made = {address(result) for operation in self._operations for result in operation.results}
        given = {address(tensor) for tensor in self._read_before_made()}
        for operation in self._operations:  # a capture computes nothing
            for result in operation.results:
                if result.is_floating_point() and address(result) in made - given:
                    result.fill_(float("nan"))

    def _read_before_made(self) -> list[Tensor]:
        found: list[Tensor] = []
        made: set[int] = set()
        for operation in self._operations:
            read = tensors_in((operation.arguments, operation.options))
            found += [tensor for tensor in read if address(tensor) not in made]
            made |= {address(result) for result in operation.results}
        return found

    def replay(self) -> None:
        assert self._pool is not None
        for operation in self._operations:
            operation.again()

    def reset(self) -> None:
        self._operations, self._pool = [], None

    def pool(self) -> Any:
        if self._pool is None:
            raise RuntimeError("CUDAGraph::pool() without a preceding successful capture")
        return self._pool


def run(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run an operation on host tensors; a capture in progress keeps it."""
    made = function(*arguments, **options)
    if _here.capturing is not None:
        _here.capturing._operations.append(_Operation(function, arguments, options, tensors_in(made)))
    return made


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def address(tensor: Tensor) -> int:
    """The same for all views of one memory."""
    return tensor.untyped_storage().data_ptr()
