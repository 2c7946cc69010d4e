"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.results import Measured, Target
from benchmarks.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim. It runs on the kinds of machine that ``bound_s`` names, for about so many seconds at most.

    ``targets`` are by kind; ``{side}`` in the title is the workload's. ``shown`` as in ``Figures``.
    """

    name: str
    number: str
    title: str
    baseline: str
    measure: Callable[[Session], Measured]
    bound_s: Mapping[str, float]
    targets: Mapping[str, Target] = field(default_factory=dict)
    shown: str = "time"
