"""How the cost grows: with the orders that wait, with the models that are asked for, with the size of the picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

from benchmarks.notebook import Notebook, Reloading
from benchmarks.results import Measured, Point
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import timed

WAITING, MODELS, PIXELS = "orders waiting", "models in turns", "pixels along each side"
REPEATS = 3
GROWN = 3
"""How many times as long as the last point the next one may take."""
ONE_BY_ONE = 4
"""Pictures that the baselines draw for one point: their cost does not depend on what waits."""


def _by_waiting(session: Session) -> Measured:
    """Seconds per picture by the number of waiting orders."""
    workload = session.workload
    files, side = session.files(workload.many), workload.many_side
    model = files.name()
    for bucket in (1, 2, 4, 8):
        session.warm(*session.new_orders(model, side, bucket))
    notebook = session.notebook(files, model)
    notebook.draw("a red apple", 1, side)
    points = []
    for waiting in workload.growth_waiting:
        began = time.monotonic()
        ours = _median(partial(_drain, session, model, side, waiting)) / waiting
        few = min(waiting, ONE_BY_ONE)
        theirs = _median(partial(_one_by_one, notebook, side, few), workload.repeats) / few
        points.append(Point(x=waiting, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=WAITING, points=tuple(points))
        if not session.deadline.allows(GROWN * (time.monotonic() - began)):
            break
    return Measured(axis=WAITING, points=tuple(points))


def _drain(session: Session, model: str, side: int, waiting: int) -> float:
    return session.ours.drain(session.new_orders(model, side, waiting))


def _one_by_one(notebook: Notebook, side: int, count: int) -> float:
    return timed(lambda: [notebook.draw("an owl", seed, side) for seed in range(count)])


def _by_models(session: Session) -> Measured:
    """Seconds per picture by the number of models in turns, once each of them was used before."""
    workload = session.workload
    files, side = session.files(workload.many, max(workload.growth_models)), workload.many_side
    others = Reloading(dict.fromkeys(files.names, files), session.device)
    session.without_notebook()
    reload_s = timed(lambda: others.draw(files.name(), "an owl", 0, side))
    held, points = 0, []
    for count in workload.growth_models:
        names = files.names[:count]
        for name in names:
            _draw(session, name, side)
        ours = statistics.median(_draw(session, name, side) for name in names * REPEATS)
        turns = [(held + turn) % count for turn in range(1, 1 + workload.repeats)]
        theirs = statistics.median(timed(partial(others.draw, files.name(turn), "an owl", 1, side)) for turn in turns)
        held = turns[-1]
        points.append(Point(x=count, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=MODELS, points=tuple(points))
        if not session.deadline.allows(workload.repeats * reload_s + 2 * REPEATS * count * ours):
            break
    others.drop()
    return Measured(axis=MODELS, points=tuple(points))


def _by_size(session: Session) -> Measured:
    """Seconds per picture by its side in pixels."""
    workload = session.workload
    files = session.files(workload.many)
    model = files.name()
    session.warm(*session.new_orders(model, workload.growth_sides[0]))
    notebook = session.notebook(files, model)
    points: list[Point] = []
    for side in workload.growth_sides:
        began = time.monotonic()
        session.warm(*session.new_orders(model, side))
        ours = _median(partial(_draw, session, model, side))
        theirs = _median(partial(_one_by_one, notebook, side, 1), workload.repeats)
        points.append(Point(x=side, ours=ours, theirs=theirs))
        session.so_far = Measured(axis=PIXELS, points=tuple(points))
        if not session.deadline.allows(GROWN * (time.monotonic() - began)):
            break
    return Measured(axis=PIXELS, points=tuple(points))


def _draw(session: Session, model: str, side: int) -> float:
    return session.ours.draw(*session.new_orders(model, side)).seconds


def _median(measure: Callable[[], float], repeats: int = REPEATS) -> float:
    return statistics.median(measure() for _ in range(repeats))


ROWS = tuple(
    Row(
        name=f"growth-{name}",
        number="",
        title=f"{{many}}: seconds per picture by {axis}",
        baseline=baseline,
        measure=measure,
        bound_s={"cpu": 120, "cuda": seconds},
        needs=needs,
        shown="growth",
    )
    for name, axis, baseline, measure, seconds, needs in (
        ("waiting", WAITING, "notebook", _by_waiting, 15, lambda workload: (workload.many, 1)),
        ("models", MODELS, "reload", _by_models, 22, lambda workload: (workload.many, max(workload.growth_models))),
        ("size", PIXELS, "notebook", _by_size, 10, lambda workload: (workload.many, 1)),
    )
)
