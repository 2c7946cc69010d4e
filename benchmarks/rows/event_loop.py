"""How long the bot's event loop stalls while a model is loaded: in our worker process, and in a thread."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.architectures import Architecture
from benchmarks.results import Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session, Stalls
from benchmarks.timing import Sample

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


def probe(what: str, *arguments: str) -> dict[str, Any]:
    """What ``benchmarks.probe`` measures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.probe", what, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _longest(session: Session) -> Measured:
    return _told(session, 1.0)


def _nearly_longest(session: Session) -> Measured:
    return _told(session, 0.999)


def _longest_compiling(session: Session) -> Measured:
    workload = session.workload
    return _watch(session, workload.compiled, workload.compiled_side, "--compile", share=1.0)


def _told(session: Session, share: float) -> Measured:
    """Of the rounds that both rows report: existing ones, or else new ones."""
    if session.stalls is not None:
        return _lateness(session.stalls, share)
    return _watch(session, session.workload.main, session.workload.side, share=share, on_round=session.keep_stalls)


def _watch(
    session: Session,
    shape: Architecture,
    side: int,
    *more: str,
    share: float,
    on_round: Callable[[Stalls], None] = lambda stalls: None,
) -> Measured:
    """Rounds of both in turns. What counts is what the probe reports, not how long it took."""
    files = session.files(shape)
    session.catalog()
    session.without_engine()
    arguments = [f"--catalog={session.catalog_path.resolve()}", f"--model={files.name()}"]
    arguments += [f"--side={side}", f"--device={session.device.type}", *more]
    stalls: Stalls = {"worker": (), "thread": ()}
    for _ in range(session.workload.rounds):
        began = time.monotonic()
        stalls = {what: (*stalls[what], probe(what, *arguments)) for what in ("thread", "worker")}
        session.so_far = _lateness(stalls, share)
        on_round(stalls)
        if not session.deadline.allows(time.monotonic() - began):
            break
    return _lateness(stalls, share)


def _lateness(stalls: Stalls, share: float) -> Measured:
    """How late the loop woke: in each round, the lag that a ``share`` of its ticks did not exceed."""
    late = {what: tuple(percentile(one["lags_s"], share) for one in found) for what, found in stalls.items()}
    took = {what: [seconds for one in found for seconds in one["took_s"]] for what, found in stalls.items()}
    return Measured(
        ours=Sample(values=late["worker"]),
        theirs=Sample(values=late["thread"]),
        notes={
            "loading and drawing took, ours, s": took["worker"],
            "loading and drawing took, thread, s": took["thread"],
        },
    )


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


ROWS = (
    Row(
        name="event-loop",
        number="10",
        title="event loop's longest stall while an {main} model loads",
        baseline="in a thread",
        measure=_longest,
        bound_s={"cpu": 300, "cuda": 42},
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(ratio=5), "cuda": Target(ratio=5)},
    ),
    Row(
        name="event-loop-p999",
        number="10b",
        title="the same, 999 of 1,000 times",
        baseline="in a thread",
        measure=_nearly_longest,
        bound_s={"cpu": 300, "cuda": 42},
        told_by="event-loop",
        needs=lambda workload: (workload.main, 1),
        targets={"cpu": Target(limit=0.010), "cuda": Target(limit=0.010)},
    ),
    Row(
        name="event-loop-compiling",
        number="10c",
        title="its longest stall while a model ({compiled}) loads and compiles",
        baseline="in a thread",
        measure=_longest_compiling,
        bound_s={"cpu": 400, "cuda": 28},
        needs=lambda workload: (workload.compiled, 1),
        targets={"cpu": Target(ratio=5), "cuda": Target(ratio=5)},
    ),
)
