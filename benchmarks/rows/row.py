"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from benchmarks.architectures import Architecture
from benchmarks.results import Measured, Target
from benchmarks.session import Session, Workload

Needs: TypeAlias = Callable[[Workload], tuple[Architecture | None, int]]
"""The checkpoints that a row draws with: their shape and number. They are written before its time begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim. It runs on the kinds of machine that ``bound_s`` names, for at most about that many seconds.

    ``told_by`` names the row whose rounds measure this one as well, so that it takes no time if that one ran. ``needs``
    is None for a row that draws nothing. ``targets`` are by kind; ``{side}`` in the title is the workload's.
    ``shown`` as in ``Figures``.
    """

    name: str
    number: str
    title: str
    baseline: str
    measure: Callable[[Session], Measured]
    bound_s: Mapping[str, float]
    needs: Needs | None
    told_by: str = ""
    targets: Mapping[str, Target] = field(default_factory=dict)
    shown: str = "time"
