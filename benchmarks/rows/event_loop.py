"""How long the bot's event loop stands still while a model is loaded: in our worker process, and in a thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import Measured, Target
from benchmarks.rows.row import Row
from benchmarks.session import Session
from benchmarks.timing import interleave

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


def probe(what: str, *arguments: str) -> dict[str, Any]:
    """What ``benchmarks.probe`` measures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.probe", what, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _stalls(session: Session) -> Measured:
    files = session.files(session.workload.main)
    session.catalog()
    session.without_engine()
    arguments = [f"--catalog={session.catalog_path.resolve()}", f"--model={files.name()}"]
    arguments += [f"--side={session.workload.side}", f"--device={session.device.type}"]
    longest: dict[str, list[float]] = {"worker": [], "thread": []}
    took: dict[str, list[float]] = {"worker": [], "thread": []}

    def stall(what: str) -> float:
        figures = probe(what, *arguments)
        longest[what].append(max(figures["lags_s"]))
        took[what] += figures["took_s"]
        return percentile(figures["lags_s"], 0.999)

    a, b = interleave(
        lambda: stall("thread"),
        lambda: stall("worker"),
        rounds=session.workload.rounds,
        deadline=session.deadline,
        peak=session.peak,
    )
    return Measured(
        ours=b,
        theirs=a,
        notes={
            "longest of all, ours, s": longest["worker"],
            "longest of all, thread, s": longest["thread"],
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
        title="event loop's stall while an {main} model loads, p99.9",
        baseline="in a thread",
        measure=_stalls,
        bound_s={"cpu": 300, "cuda": 40},
        targets={"cpu": Target(ratio=5, limit=0.010), "cuda": Target(ratio=5, limit=0.010)},
    ),
)
