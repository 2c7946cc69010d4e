"""What a second checkpoint of the same architecture costs the compiler: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.utils import counters

from benchmarks.ours import Ours
from benchmarks.results import Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import Sample


def _second_checkpoint(session: Session) -> Measured:
    files = session.files(session.workload.compiled, 2)
    session.without_engine()
    engine = Ours(session.catalog(), session.device, compiler=session.workload.compiler)
    with _counting() as captures:
        before = _graphs()
        _draw_often(session, engine, files.name(0))
        compiled, captured = _graphs() - before, len(captures)
        _draw_often(session, engine, files.name(1))
        compiled_more, captured_more = _graphs() - before - compiled, len(captures) - captured
    return Measured(
        ours=Sample(values=(float(compiled_more + captured_more),)),
        notes={
            "compiled for the first checkpoint": compiled,
            "CUDA graphs captured for the first": captured,
            "compiled for the second": compiled_more,
            "CUDA graphs captured for the second": captured_more,
        },
    )


def _draw_often(session: Session, engine: Ours, model: str) -> None:
    """Draw several times: a loop is captured when it recurs."""
    for _ in range(3):
        engine.draw(*session.new_orders(model, session.workload.compiled_side))


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@contextmanager
def _counting() -> Iterator[list[None]]:
    """A list that grows by one for every CUDA graph that is captured."""
    captures: list[None] = []
    kind: Any = torch.cuda.CUDAGraph
    begin = kind.capture_begin

    def counted(graph: Any, *arguments: Any, **options: Any) -> Any:
        captures.append(None)
        return begin(graph, *arguments, **options)

    kind.capture_begin = counted
    try:
        yield captures
    finally:
        kind.capture_begin = begin


ROWS = (
    Row(
        name="graphs",
        number="9",
        title="graphs compiled for a second checkpoint ({compiled})",
        baseline="",
        measure=_second_checkpoint,
        bound_s={"cpu": 300, "cuda": 35},
        needs=lambda workload: (workload.compiled, 2),
        targets={"cpu": Target(limit=0), "cuda": Target(limit=0)},
        shown="count",
    ),
)
