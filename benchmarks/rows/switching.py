"""How long switching between two models takes, against a program that loads the other one anew."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

from benchmarks.checkpoints import Checkpoints
from benchmarks.notebook import Reloading
from benchmarks.ours import Ours, Timed
from benchmarks.results import Likeness, Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.switch_time import longer_by, plain_seconds, switch_seconds
from benchmarks.timing import timed
from inference.memory.budgets import Budgets


def _resident(session: Session) -> Measured:
    shape = session.workload.main
    files = session.files(shape, 2)
    for name in files.names:
        session.warm(*session.new_orders(name, session.workload.side))
    return _switch(session, files, session.ours)


def _from_host(session: Session) -> Measured:
    """With room for one model on the device, and for both in host memory."""
    session.without_engine()
    files = session.files(session.workload.main, 2)
    engine = Ours(session.catalog(), session.device, budgets=Budgets(device=1, host=64 * 2**30))
    for name in files.names:
        engine.draw(*session.new_orders(name, session.workload.side))
    return _switch(session, files, engine)


def _switch(session: Session, files: Checkpoints, ours: Ours) -> Measured:
    side = session.workload.side
    others = Reloading(dict.fromkeys(files.names, files), session.device)
    session.without_notebook()
    our_models = itertools.pairwise(itertools.cycle(reversed(files.names)))
    their_models = itertools.cycle(files.names)
    switched: list[Timed] = []

    def theirs() -> float:
        name = next(their_models)
        return timed(lambda: others.switch(name))

    def draw(model: str) -> Timed:
        return ours.draw(*session.new_orders(model, side))

    def once() -> float:
        present, other = next(our_models)
        draw(present)  # the other side's loading has emptied torch's caches, and let a GPU's clock fall
        switched.append(draw(other))
        return switch_seconds(switched[-1], plain_s, session.device)

    likeness = _likeness(session, files, others, ours)
    plain_s = plain_seconds(partial(draw, files.name(1)))
    measured = session.side_by_side(theirs, once, likeness=likeness, notes={"side": side})
    others.drop()
    return replace(measured, notes={**longer_by(switched, plain_s), **measured.notes})


def _likeness(session: Session, files: Checkpoints, others: Reloading, ours: Ours) -> Likeness:
    """Of a picture drawn right after a switch on both sides."""
    first, second = files.names[:2]
    order = session.new_orders(second, session.workload.side)[0]
    ours.draw(*session.new_orders(first, order.side))
    pixels = ours.draw(order).pixels[0]
    return session.likeness(pixels, others.draw(second, order.prompt, order.seed, order.side))


ROWS = (
    Row(
        name="switch",
        number="5",
        title="switch to an {main} model in memory",
        baseline="reload",
        measure=_resident,
        bound_s={"cpu": 240, "cuda": 25},
        needs=lambda workload: (workload.main, 2),
        targets={"cpu": Target(ratio=500), "cuda": Target(ratio=1000, limit=0.005)},
    ),
    Row(
        name="switch-from-host",
        number="6",
        title="switch to an {main} model in host memory",
        baseline="reload",
        measure=_from_host,
        bound_s={"cuda": 28},
        needs=lambda workload: (workload.main, 2),
        targets={"cuda": Target(ratio=80, limit=0.050)},
    ),
)
