"""Pictures per second while many orders wait, against a notebook that draws them one by one."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.architectures import Architecture
from benchmarks.checkpoints import Checkpoints
from benchmarks.ours import MAX_BATCH, Order
from benchmarks.results import Likeness, Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import timed


def _main(session: Session, *, tiny_vae: bool) -> Measured:
    workload = session.workload
    return _throughput(session, workload.main, workload.side, workload.waiting, workload.theirs, tiny_vae=tiny_vae)


def _large(session: Session) -> Measured:
    shape = session.workload.large
    if shape is None:
        return Measured(skipped="needs a GPU")
    return _throughput(session, shape, shape.side, 16, 2, tiny_vae=False)


def _throughput(
    session: Session, shape: Architecture, side: int, waiting: int, theirs: int, *, tiny_vae: bool
) -> Measured:
    files = session.files(shape)
    model = files.fast if tiny_vae else files.name()
    warm = session.new_orders(model, side, min(MAX_BATCH, waiting))
    batch = session.warm(*warm)
    notebook = session.notebook(files, files.name())
    likeness = _likeness(session, files, warm[0], batch[0], tiny_vae=tiny_vae)
    notebook.draw("a red apple", 1, side)
    one_by_one = session.new_orders(model, side, theirs)
    measured = session.side_by_side(
        lambda: timed(lambda: [notebook.draw(order.prompt, order.seed, side) for order in one_by_one]) / theirs,
        lambda: session.ours.drain(session.new_orders(model, side, waiting)) / waiting,
        likeness=likeness,
        notes={"waiting orders": waiting, "pictures per batch": MAX_BATCH, "side": side},
    )
    return session.with_arithmetic(measured, shape, side, tiny_vae=tiny_vae)


def _likeness(
    session: Session, files: Checkpoints, order: Order, ours: NDArray[np.uint8], *, tiny_vae: bool
) -> Likeness:
    """Of a picture out of a full batch; for the tiny autoencoder the notebook gets the same one, off the clock."""
    notebook = session.notebook(files, files.name())
    stock = notebook.pipeline.vae
    try:
        if tiny_vae:
            notebook.with_tiny_vae(files.tiny_vae)
        return session.likeness(ours, notebook.draw(order.prompt, order.seed, order.side))
    finally:
        notebook.pipeline.vae = stock
        if session.device.type == "cuda":
            torch.cuda.empty_cache()


ROWS = (
    Row(
        name="throughput",
        number="1",
        title="{main} at {side}², many orders waiting",
        baseline="notebook",
        measure=partial(_main, tiny_vae=False),
        bound_s={"cpu": 420, "cuda": 33},
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(ratio=2.5), "cuda": Target(ratio=10, limit=1 / 50)},
        shown="rate",
    ),
    Row(
        name="throughput-tiny-vae",
        number="2",
        title="{main} at {side}², many orders waiting, tiny autoencoder",
        baseline="notebook, stock autoencoder",
        measure=partial(_main, tiny_vae=True),
        bound_s={"cpu": 420, "cuda": 20},
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(ratio=4), "cuda": Target(ratio=16, limit=1 / 85)},
        shown="rate",
    ),
    Row(
        name="throughput-sdxl",
        number="3",
        title="SDXL at 1024², many orders waiting",
        baseline="notebook",
        measure=_large,
        bound_s={"cuda": 50},
        needs=lambda workload: (workload.large, 1),
        targets={"cuda": Target(ratio=5.5, limit=1 / 9)},
        shown="rate",
    ),
)
