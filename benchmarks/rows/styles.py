"""Switching a style LoRA on and off, against unloading, loading and fusing with diffusers' own means."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

from benchmarks.ours import Order, Timed
from benchmarks.results import Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.switch_time import longer_by, plain_seconds, switch_seconds
from benchmarks.timing import timed
from inference.contract import Adapter

STRENGTH = 0.8
NEW_STRENGTHS = (0.5, 0.6, 0.7)
"""Each of them is a style that has not been merged yet."""


def _toggle(session: Session) -> Measured:
    workload = session.workload
    files = session.files(workload.main)
    model, side = files.name(), workload.side

    def styled(strength: float, seed: int = 5) -> Order:
        worn = (Adapter(name=files.style, strength=strength),) if strength else ()
        return Order(model=model, prompt="a lighthouse", seed=seed, side=side, adapters=worn)

    session.without_notebook()
    session.warm(*session.new_orders(model, side))
    cold = [session.ours.draw(styled(strength)).load_s for strength in NEW_STRENGTHS[: workload.merges]]
    session.ours.draw(styled(STRENGTH))
    session.ours.draw(styled(0.0))
    ours = session.ours.draw(styled(STRENGTH))
    plain_s = plain_seconds(lambda: session.ours.draw(styled(STRENGTH)))
    notebook = session.notebook(files, model)
    notebook.with_style(files.lcm_lora, files.style_lora, STRENGTH)
    likeness = session.likeness(ours.pixels[0], notebook.draw("a lighthouse", 5, side))
    switched: list[Timed] = []
    turns, their_turns = itertools.cycle((0.0, STRENGTH)), itertools.cycle((0.0, STRENGTH))

    def theirs() -> float:
        on = next(their_turns)
        style = files.style_lora if on else None
        return timed(lambda: notebook.with_style(files.lcm_lora, style, on))

    def once() -> float:
        switched.append(session.ours.draw(styled(next(turns))))
        return switch_seconds(switched[-1], plain_s, session.device)

    measured = session.side_by_side(
        theirs,
        once,
        rounds=2 * workload.rounds,
        likeness=likeness,
        notes={"the first time, merged anew, s": statistics.median(cold), "first times, s": cold},
    )
    session.without_notebook()
    return replace(measured, notes={**measured.notes, **longer_by(switched, plain_s)})


ROWS = (
    Row(
        name="style",
        number="8",
        title="style LoRA on or off ({main})",
        baseline="unload, load, fuse",
        measure=_toggle,
        bound_s={"cpu": 300, "cuda": 25},
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(ratio=10), "cuda": Target(ratio=40)},
    ),
)
