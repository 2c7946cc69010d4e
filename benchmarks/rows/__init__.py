"""The rows of the table. Each module measures one claim."""

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
"""In the table's order."""

BY_IMPORTANCE = (
    "throughput",
    "latency",
    "throughput-tiny-vae",
    "switch",
    "style",
    "throughput-sdxl",
    "latency-sdxl",
    "zipf",
    "growth-models",
    "growth-waiting",
    "growth-size",
    "event-loop",
    "event-loop-p999",
    "queue",
    "switch-from-host",
    "graphs",
    "event-loop-compiling",
)
"""The order in which they are measured: if time runs out, the least important are lost. The growth rows use the models
that the Zipf row left in memory, and compiling on both sides uses what the graphs row left in Inductor's cache."""
