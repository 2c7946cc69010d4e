"""Many models at once: two hundred orders, some models asked for much more often than others."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from functools import partial

from benchmarks.notebook import Reloading
from benchmarks.ours import Order
from benchmarks.results import Likeness, Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import timed

PEOPLE = 50


def zipf_orders(models: Sequence[str], side: int, count: int, *, turn: int = 0) -> list[Order]:
    """Orders of ``PEOPLE``; the k-th model is asked for 1/k as often as the first (Zipf's law). Every turn is the same,
    except for prompts and seeds."""
    chance = random.Random(0)
    chosen = chance.choices(models, weights=[1 / rank for rank in range(1, len(models) + 1)], k=count)
    return [
        Order(model=model, prompt=f"a fox, number {i}", seed=i, side=side, owner=f"person {chance.randrange(PEOPLE)}")
        for i, model in enumerate(chosen, start=turn * count)
    ]


def _zipf(session: Session) -> Measured:
    workload = session.workload
    files = session.files(workload.many, workload.models)
    orders_of = partial(zipf_orders, files.names[: workload.models], workload.many_side, workload.requests)
    orders, turns = orders_of(), itertools.count(1)
    session.without_engine()
    first = session.ours.drain(orders)
    others = Reloading(dict.fromkeys(files.names, files), session.device)
    likeness = _likeness(session, others, orders[0])
    theirs = itertools.cycle(orders)

    def reload_and_draw() -> None:
        for order in itertools.islice(theirs, workload.slice):
            others.draw(order.model, order.prompt, order.seed, order.side)

    measured = session.side_by_side(
        lambda: timed(reload_and_draw) / workload.slice,
        lambda: session.ours.drain(orders_of(turn=next(turns))) / len(orders),
        likeness=likeness,
        notes={
            "requests": len(orders),
            "models": workload.models,
            "requests of theirs per round": workload.slice,
            "the first time, all models loaded from disk, s per picture": first / len(orders),
        },
    )
    others.drop()
    return session.with_arithmetic(measured, workload.many, workload.many_side)


def _likeness(session: Session, others: Reloading, order: Order) -> Likeness:
    theirs = others.draw(order.model, order.prompt, order.seed, order.side)
    return session.likeness(session.ours.draw(order).pixels[0], theirs)


ROWS = (
    Row(
        name="zipf",
        number="7",
        title="{requests} orders for {models} models ({many}), Zipf, per picture",
        baseline="reload",
        measure=_zipf,
        bound_s={"cpu": 420, "cuda": 58},
        needs=lambda workload: (workload.many, workload.models),
        targets={"cpu": Target(ratio=20), "cuda": Target(ratio=150)},
    ),
)
