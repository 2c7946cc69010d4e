"""What an order costs besides its drawing: queue, worker process, and the events on the way back."""

from __future__ import annotations

from benchmarks.results import Measured, Target
from benchmarks.rows.event_loop import percentile, probe
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import Sample


def _overhead(session: Session) -> Measured:
    orders = 40 * session.workload.rounds
    figures = probe("queue", f"--orders={orders}")
    alone = figures["alone_s"]
    return Measured(
        ours=Sample(values=tuple(alone)),
        notes={
            "99 of 100 orders within, s": percentile(alone, 0.99),
            "per order when 64 wait at once, s": figures["among_many_s"],
        },
    )


ROWS = (
    Row(
        name="queue",
        number="11",
        title="queue and worker process, per order",
        baseline="",
        measure=_overhead,
        bound_s={"cpu": 60, "cuda": 5},
        needs=None,
        targets={"cpu": Target(limit=0.005), "cuda": Target(limit=0.005)},
    ),
)
