"""The rows of the table, in its order. Each module measures one claim."""

from __future__ import annotations

from benchmarks.rows import (
    event_loop,
    graphs,
    growth,
    latency,
    many_models,
    queueing,
    styles,
    switching,
    throughput,
)
from benchmarks.rows.row import Row

ROWS: tuple[Row, ...] = (
    *throughput.ROWS,
    *latency.ROWS,
    *switching.ROWS,
    *many_models.ROWS,
    *styles.ROWS,
    *graphs.ROWS,
    *event_loop.ROWS,
    *queueing.ROWS,
    *growth.ROWS,
)
