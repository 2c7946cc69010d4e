"""What counts as reached, what the file keeps, and that the README says what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.likeness import psnr
from benchmarks.machine import Machine
from benchmarks.readme import END, README, START, with_table
from benchmarks.report import amount, line_of, table_of
from benchmarks.results import Figures, Likeness, Measured, Point, Results, Target, read_results
from benchmarks.timing import Sample

MACHINE = Machine(
    kind="cpu", name="a processor", cores=2, memory_gib=8.0, device_memory_gib=None, system="Linux x86_64"
)
SWITCH = Figures(
    number="5",
    title="switch",
    baseline="reload",
    shown="time",
    target=Target(ratio=100, limit=0.05),
    measured=Measured(
        ours=Sample(values=(0.02, 0.01, 0.03)),
        theirs=Sample(values=(4.0, 5.0, 3.0), peak_bytes=7),
        likeness=Likeness(psnr_db=50.0, needed_db=30.0, precisions="both float32"),
        points=(Point(x=1, ours=0.1, theirs=0.4),),
        notes={"side": 64},
    ),
)


def results(*rows: Figures) -> Results:
    return Results(machine=MACHINE, versions={"torch": "1"}, rows={row.title: row for row in rows})


def changed(**changes: object) -> Figures:
    """``SWITCH`` with another measurement."""
    return replace(SWITCH, measured=replace(SWITCH.measured, **changes))


def test_a_target_is_reached_by_ratio_and_limit_together() -> None:
    assert SWITCH.ratio == pytest.approx(200)
    assert SWITCH.reached is True
    assert replace(SWITCH, target=Target(ratio=300)).reached is False
    assert replace(SWITCH, target=Target(ratio=100, limit=0.015)).reached is False
    assert replace(SWITCH, target=Target()).reached is None


def test_a_count_of_nothing_reaches_a_limit_of_nothing() -> None:
    none = replace(changed(ours=Sample(values=(0.0,)), theirs=None), target=Target(limit=0), shown="count")
    assert none.reached is True
    assert none.ratio is None


def test_fast_drawings_of_something_else_reach_nothing() -> None:
    unlike = Likeness(psnr_db=12.0, needed_db=30.0, precisions="both float32")
    assert changed(likeness=unlike).reached is False


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    results(SWITCH).save(tmp_path / "cpu.json")
    assert read_results(tmp_path / "cpu.json") == results(SWITCH)


def test_a_run_goes_on_with_the_rows_of_the_same_machine_only(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    kept = Results(machine=MACHINE, rows={"switch": SWITCH})
    kept.save(path)
    assert Results.going_on(path, MACHINE).rows == kept.rows
    assert Results.going_on(path, replace(MACHINE, cores=64)).rows == {}


@pytest.mark.parametrize(
    ("value", "shown", "words"),
    [
        (0.02, "rate", "50/s"),
        (12.345, "time", "12.3 s"),
        (0.00321, "time", "3.21 ms"),
        (0.0000321, "time", "32.1 µs"),
        (0.0, "count", "0"),
    ],
)
def test_amounts_read_well(value: float, shown: str, words: str) -> None:
    assert amount(value, shown) == words


def test_a_row_says_what_was_measured_and_what_was_aimed_at() -> None:
    line = line_of(SWITCH)
    for words in ("20 ms (10 ms to 30 ms; 3 rounds)", "reload 4 s", "≥ 100×, ≤ 50 ms", "200×", "50 dB", "side: 64"):
        assert words in line


def test_the_table_has_only_what_was_measured() -> None:
    table = table_of(results(SWITCH, replace(SWITCH, title="absent", measured=Measured(skipped="needs a GPU"))))
    assert "| switch | 4 s (reload) | 20 ms | 200× | ≥ 100×, ≤ 50 ms | yes |" in table
    assert "absent" not in table


def test_a_table_goes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    results(SWITCH).save(tmp_path / "cpu.json")
    readme = with_table(f"before\n{START}\nold\n{END}\nafter\n", tmp_path)
    assert readme.startswith(f"before\n{START}\n")
    assert readme.endswith(f"{END}\nafter\n")
    assert "| switch |" in readme
    assert "old" not in readme
    with pytest.raises(ValueError, match="lacks"):
        with_table("no marks", tmp_path)


def test_the_readme_says_what_was_measured() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme == with_table(readme), "run: python -m benchmarks.readme"


def test_likeness_knows_equal_pictures_from_others_and_from_empty_ones() -> None:
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert psnr(picture, picture) == 99.0
    assert psnr(picture, chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)) < 15
    with pytest.raises(ValueError, match="nothing"):
        psnr(np.zeros_like(picture), picture)
