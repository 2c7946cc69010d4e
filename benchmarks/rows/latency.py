"""How long one order takes when nobody else waits."""

from __future__ import annotations

from functools import partial

from benchmarks.architectures import Architecture
from benchmarks.results import Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import timed


def _main(session: Session) -> Measured:
    return _latency(session, session.workload.main, session.workload.side)


def _large(session: Session) -> Measured:
    shape = session.workload.large
    return Measured(skipped="needs a GPU") if shape is None else _latency(session, shape, shape.side)


def _latency(session: Session, shape: Architecture, side: int) -> Measured:
    files = session.files(shape)
    order = session.new_orders(files.name(), side)[0]
    session.warm(order)
    ours = session.warm(order)[0]
    notebook = session.notebook(files, files.name())
    likeness = session.likeness(ours, notebook.draw(order.prompt, order.seed, side))
    measured = session.side_by_side(
        lambda: timed(partial(notebook.draw, order.prompt, order.seed, side)),
        lambda: session.ours.draw(*session.new_orders(order.model, side)).seconds,
        rounds=session.workload.rounds if session.device.type == "cpu" else 4 * session.workload.rounds,
        likeness=likeness,
    )
    return session.with_arithmetic(measured, shape, side)


ROWS = (
    Row(
        name="latency",
        number="4",
        title="{main} at {side}², one order alone",
        baseline="notebook",
        measure=_main,
        bound_s={"cpu": 180, "cuda": 10},
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(ratio=2), "cuda": Target(ratio=7, limit=0.028)},
    ),
    Row(
        name="latency-sdxl",
        number="4b",
        title="SDXL at 1024², one order alone",
        baseline="notebook",
        measure=_large,
        bound_s={"cuda": 10},
        needs=lambda workload: (workload.large, 1),
        targets={"cuda": Target(ratio=5, limit=0.110)},
    ),
)
