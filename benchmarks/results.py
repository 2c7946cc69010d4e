"""What a row measured, whether that reaches its target, and the file that stores it.

Values are seconds per unit of work (a picture, a request, a switch) or counts; less is always better. The file is
rewritten after every row, so measurements survive whatever ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine, versions
from benchmarks.timing import Sample

FOLDER = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """At least ``ratio`` times better than the baseline, and at most ``limit`` by itself."""

    ratio: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The cost at one size of the work."""

    x: float
    ours: float
    theirs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How similar our picture is to the baseline's from the same noise, in dB."""

    psnr_db: float
    needed_db: float
    precisions: str

    @property
    def reached(self) -> bool:
        return self.psnr_db >= self.needed_db


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Our useful arithmetic per second, and its share of the machine's measured ceiling in our precision."""

    tflops: float
    ceiling_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A row's outcome; ``skipped`` says why there is none.

    ``points`` show how the cost grows with ``axis``. ``notes`` are further figures, by a description of each.
    """

    ours: Sample | None = None
    theirs: Sample | None = None
    likeness: Likeness | None = None
    arithmetic: Arithmetic | None = None
    axis: str = ""
    points: tuple[Point, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One line of the table: a row, its target on this machine, and what was measured."""

    number: str
    title: str
    baseline: str
    shown: str
    """``rate`` (pictures per second), ``time``, ``count`` or ``growth``."""
    target: Target
    measured: Measured
    took_s: float = 0.0
    date: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the baseline."""
        ours, theirs = self.measured.ours, self.measured.theirs
        return theirs.median / ours.median if ours and theirs and ours.median > 0 else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target or a measurement. Never if the pictures are unlike."""
        ours, likeness = self.measured.ours, self.measured.likeness
        if ours is None or self.target == Target():
            return None
        if likeness is not None and not likeness.reached:
            return False
        if self.target.ratio is not None and (self.ratio is None or self.ratio < self.target.ratio):
            return False
        return self.target.limit is None or ours.median <= self.target.limit


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything measured on one machine, by the rows' names."""

    machine: Machine
    versions: Mapping[str, str] = field(default_factory=versions)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: dict[str, Figures] = field(default_factory=dict)

    @classmethod
    def going_on(cls, path: Path, machine: Machine) -> Results:
        """Resume with the rows at ``path``, if they are of the same machine and versions."""
        fresh = cls(machine=machine)
        if path.exists():
            kept = read_results(path)
            if (kept.machine, kept.versions) == (machine, fresh.versions):
                return kept
        return fresh

    def save(self, path: Path) -> None:
        """Write everything; a reader finds the old file or the new one."""
        document = asdict(self)
        for name, figures in self.rows.items():
            document["rows"][name] |= {"ratio": figures.ratio, "reached": figures.reached}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)


def today() -> str:
    """The date, for the file."""
    return datetime.now(UTC).date().isoformat()


def read_results(path: Path) -> Results:
    """What ``save`` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return Results(
        machine=Machine(**document["machine"]),
        versions=document["versions"],
        ceilings=document["ceilings"],
        rows={name: _figures(row) for name, row in document["rows"].items()},
    )


def _figures(row: dict[str, Any]) -> Figures:
    measured = dict(row["measured"])
    measured["points"] = tuple(Point(**point) for point in measured["points"])
    kinds: dict[str, Callable[..., Any]] = {
        "ours": _sample,
        "theirs": _sample,
        "likeness": Likeness,
        "arithmetic": Arithmetic,
    }
    for name, kind in kinds.items():
        measured[name] = kind(**measured[name]) if measured[name] else None
    plain = {name: value for name, value in row.items() if name not in ("ratio", "reached", "target", "measured")}
    return Figures(**plain, target=Target(**row["target"]), measured=Measured(**measured))


def _sample(values: list[float], peak_bytes: int) -> Sample:
    return Sample(values=tuple(values), peak_bytes=peak_bytes)
