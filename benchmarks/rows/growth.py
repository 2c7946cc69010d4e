"""How the cost grows: with the orders that wait, with the models that are asked for, with the size of the picture."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.notebook import Notebook, Reloading
from benchmarks.results import Measured, Point
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import timed

WAITING, MODELS, PIXELS = "orders waiting", "models in turns", "pixels along each side"
REPEATS = 3
ONE_BY_ONE = 4
"""Pictures that the baselines draw for one point: their cost does not depend on what waits."""


def _by_waiting(session: Session) -> Measured:
    """Seconds per picture with so many orders waiting."""
    workload = session.workload
    files, side = session.files(workload.many), workload.many_side
    model = files.name()
    for bucket in (1, 2, 4, 8):
        session.warm(*session.new_orders(model, side, bucket))
    notebook = session.notebook(files, model)
    notebook.draw("a red apple", 1, side)
    points = []
    for waiting in workload.growth_waiting:
        ours = _median(partial(_drain, session, model, side, waiting)) / waiting
        few = min(waiting, ONE_BY_ONE)
        theirs = _median(partial(_one_by_one, notebook, side, few)) / few
        points.append(Point(x=waiting, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=WAITING, points=tuple(points))
        if not session.deadline.allows(4 * waiting * ours):
            break
    return Measured(axis=WAITING, points=tuple(points))


def _drain(session: Session, model: str, side: int, waiting: int) -> float:
    return session.ours.drain(session.new_orders(model, side, waiting))


def _one_by_one(notebook: Notebook, side: int, count: int) -> float:
    return timed(lambda: [notebook.draw("an owl", seed, side) for seed in range(count)])


def _by_models(session: Session) -> Measured:
    """Seconds per picture when so many models are asked for in turns, once all of them were asked for before."""
    workload = session.workload
    files, side = session.files(workload.many, max(workload.growth_models)), workload.many_side
    others = Reloading(dict.fromkeys(files.names, files), session.device)
    session.without_notebook()
    points = []
    for count in workload.growth_models:
        names = files.names[:count]
        for name in names:
            _draw(session, name, side)
        ours = statistics.median(_draw(session, name, side) for name in names * REPEATS)
        turns = itertools.cycle(names)
        others.draw(next(turns), "an owl", 0, side)
        theirs = _median(partial(_next_of, others, turns, side))
        points.append(Point(x=count, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=MODELS, points=tuple(points))
        if not session.deadline.allows(8 * theirs + 2 * count * ours):
            break
    others.drop()
    return Measured(axis=MODELS, points=tuple(points))


def _next_of(others: Reloading, turns: Iterator[str], side: int) -> float:
    return timed(lambda: others.draw(next(turns), "an owl", 1, side))


def _by_size(session: Session) -> Measured:
    """Seconds of one picture of so many pixels along each side."""
    workload = session.workload
    files = session.files(workload.many)
    model = files.name()
    session.warm(*session.new_orders(model, workload.growth_sides[0]))
    notebook = session.notebook(files, model)
    points: list[Point] = []
    for side in workload.growth_sides:
        first = _draw(session, model, side)
        ours = _median(partial(_draw, session, model, side))
        theirs = _median(partial(_one_by_one, notebook, side, 1))
        points.append(Point(x=side, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=PIXELS, points=tuple(points))
        if not session.deadline.allows(3 * (first + REPEATS * (ours + theirs))):
            break
    return Measured(axis=PIXELS, points=tuple(points))


def _draw(session: Session, model: str, side: int) -> float:
    return session.ours.draw(*session.new_orders(model, side)).seconds


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(REPEATS))


ROWS = tuple(
    Row(
        name=f"growth-{name}",
        number="",
        title=f"{{many}}: seconds per picture by {axis}",
        baseline=baseline,
        measure=measure,
        bound_s={"cpu": 120, "cuda": 15},
        needs=needs,
        shown="growth",
    )
    for name, axis, baseline, measure, needs in (
        ("waiting", WAITING, "notebook", _by_waiting, lambda workload: (workload.many, 1)),
        ("models", MODELS, "reload", _by_models, lambda workload: (workload.many, max(workload.growth_models))),
        ("size", PIXELS, "notebook", _by_size, lambda workload: (workload.many, 1)),
    )
)
