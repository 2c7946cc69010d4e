"""Runs rows one after the other: limited in time, saved after each, and none of them can end the others."""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks.report import line_of
from benchmarks.results import Figures, Measured, Results, Target, today
from benchmarks.rows import ROWS
from benchmarks.rows.row import Row
from benchmarks.session import Session, Workload
from benchmarks.timing import Deadline

GRACE = 1.5
"""A row that does not stop between two rounds is aborted after this many times its bound, if time allows."""
LEAST_S = 4.0
"""A row is not started with less time."""
AGAIN_S = 5.0
"""Interval at which ``Overran`` is raised again if a row goes on: a graph's capture turns it into another error."""
COMPILED = 4.0
"""How much longer rows may take where our networks are compiled: SD 1.5's take a minute for each shape."""
FILES_S = 60.0
"""What writing all checkpoints for a GPU (24 GB) may take."""


class Overran(BaseException):
    """A row took much longer than allowed. A BaseException, so that no library mistakes it for an error to handle."""


def run_rows(rows: Sequence[Row], session: Session, results: Results, path: Path, *, ends: float = math.inf) -> None:
    """Measure ``rows``, until ``ends`` at the latest (by ``time.monotonic``), and store them in ``results`` and at
    ``path``."""
    kind = session.device.type
    _write_files(rows, session)
    stretch = COMPILED if session.compiler else 1.0
    kept = [stretch * bound_s for bound_s in bounds_of(rows, kind)]
    for turn, row in enumerate(rows):
        started = time.monotonic()
        later = sum(kept[turn + 1 :])
        allowed = allowance(stretch * row.bound_s[kind], kept_s=kept[turn], later_s=later, left_s=ends - started)
        measured = _measure(row, session, allowed)
        figures = Figures(
            number=row.number,
            title=row.title.format_map(_words(session.workload)),
            baseline=row.baseline,
            shown=row.shown,
            target=row.targets.get(kind, Target()),
            measured=measured,
            took_s=round(time.monotonic() - started, 1),
            date=today(),
        )
        print(line_of(figures), flush=True)
        if not measured.skipped or row.name not in results.rows:
            results.rows[row.name] = figures
        results.rows = _in_order(results.rows)
        results.ceilings = results.ceilings or (session.ceilings if measured.arithmetic else {})
        results.save(path)


def bounds_of(rows: Sequence[Row], kind: str) -> list[float]:
    """The seconds reserved for each of ``rows`` in one run: hardly any for a row that another one's rounds measure."""
    names = {row.name for row in rows}
    return [LEAST_S if row.told_by in names else row.bound_s[kind] for row in rows]


def allowance(bound_s: float, *, kept_s: float, later_s: float, left_s: float) -> float:
    """After how many seconds a row is aborted: ``GRACE`` times its bound, if that leaves the rows after it the
    ``later_s`` reserved for them; in any case its own reserved ``kept_s``, as long as that much is left."""
    return min(GRACE * bound_s, left_s, max(kept_s, left_s - later_s))


def _write_files(rows: Sequence[Row], session: Session) -> None:
    """Write them all in advance and off every row's clock. If that fails, their rows try again and report it."""
    started = time.monotonic()
    for row in rows:
        shape, count = row.needs(session.workload) if row.needs else (None, 0)
        if shape is not None:
            with contextlib.suppress(OSError, RuntimeError):
                session.files(shape, count)
    print(f"checkpoints were ready after {time.monotonic() - started:.0f} s\n", flush=True)


def _measure(row: Row, session: Session, allowed_s: float) -> Measured:
    if allowed_s < LEAST_S:
        return Measured(skipped="there was no time left")
    session.deadline, session.so_far = Deadline(allowed_s / GRACE), None
    try:
        with _alarm(allowed_s):
            return row.measure(session)
    except Overran:
        reason = f"it took longer than {allowed_s:.0f} s"
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    # Outside the handler: its exception keeps alive what the row had in memory.
    session.without_engine()
    gc.collect()
    return _rest_of(session.so_far, reason)


def _rest_of(so_far: Measured | None, reason: str) -> Measured:
    """What was measured of a row that was aborted."""
    if so_far is None:
        return Measured(skipped=reason)
    return replace(so_far, notes={**so_far.notes, "broken off": reason})


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise ``Overran`` in the block after ``seconds``, and again if it gets lost; without alarm signals, never."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise Overran

    before = signal.signal(signal.SIGALRM, ring)
    timer_before = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)


def _words(workload: Workload) -> dict[str, object]:
    """The placeholders that titles may use."""
    return {
        "main": workload.main.title,
        "many": f"{workload.many.title} at {workload.many_side}²",
        "compiled": f"{workload.compiled.title} at {workload.compiled_side}²",
        "side": workload.side,
        "requests": workload.requests,
        "models": workload.models,
    }


def _in_order(rows: dict[str, Figures]) -> dict[str, Figures]:
    order = [row.name for row in ROWS]
    return dict(sorted(rows.items(), key=lambda pair: order.index(pair[0])))
