"""Every row runs from beginning to end, at the smallest sizes, and finds our pictures to be the baseline's."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.machine import Machine
from benchmarks.results import Measured, Results, Target, read_results
from benchmarks.rows import ROWS
from benchmarks.rows.many_models import zipf_orders
from benchmarks.rows.row import Needs, Row
from benchmarks.run import run_rows
from benchmarks.session import Session

FAST = [row for row in ROWS if "cpu" in row.bound_s and not row.name.startswith("event-loop")]
LIKE = {"throughput", "throughput-tiny-vae", "latency", "switch", "zipf", "style"}


def measured(row: Row, session: Session, folder: Path) -> Results:
    """The file that a run of ``row`` alone leaves."""
    results = Results(machine=Machine.of(session.device), versions={"torch": "some"})
    run_rows([row], session, results, folder / "cpu.json")
    return read_results(folder / "cpu.json")


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in FAST])
def test_a_row_measures_both_sides_and_is_kept(row: Row, session: Session, tmp_path: Path) -> None:
    figures = measured(row, session, tmp_path).rows[row.name]
    assert not figures.measured.skipped
    assert figures.measured.ours or figures.measured.points
    assert (row.name in LIKE) is (figures.measured.likeness is not None)
    assert figures.measured.likeness is None or figures.measured.likeness.reached
    assert figures.target == row.targets.get("cpu", Target())


@pytest.mark.timeout(300)
def test_the_loop_is_watched_while_a_worker_and_a_thread_load(session: Session, tmp_path: Path) -> None:
    row, told = (next(row for row in ROWS if row.name == name) for name in ("event-loop", "event-loop-p999"))
    figures = measured(row, session, tmp_path).rows[row.name].measured
    assert figures.ours is not None
    assert figures.theirs is not None
    assert not figures.skipped
    again = measured(told, session, tmp_path).rows[told.name]
    assert again.took_s < 1
    assert again.measured.notes == figures.notes


def test_a_row_that_fails_does_not_end_the_others(session: Session, tmp_path: Path) -> None:
    def broken(_: Session) -> Measured:
        raise RuntimeError("no luck")

    results = Results(machine=Machine.of(session.device), versions={})
    rows = [_row("throughput", broken), _row("queue", lambda _: Measured(notes={"it": "ran"}))]
    run_rows(rows, session, results, tmp_path / "cpu.json")
    kept = read_results(tmp_path / "cpu.json").rows
    assert kept["throughput"].measured.skipped == "RuntimeError: no luck"
    assert kept["queue"].measured.notes == {"it": "ran"}


def test_checkpoints_are_written_before_the_clock_of_a_row_starts(session: Session, tmp_path: Path) -> None:
    apart = Session(session.device, session.workload, tmp_path / "checkpoints")
    found: list[bool] = []

    def looks(run: Session) -> Measured:
        found.append((run.folder / "miniature" / "miniature-1" / "model_index.json").exists())
        return Measured()

    row = _row("zipf", looks, needs=lambda workload: (workload.main, 2))
    run_rows([row], apart, Results(machine=Machine.of(session.device), versions={}), tmp_path / "cpu.json")
    assert found == [True]


def test_a_row_that_never_ends_is_broken_off(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE", 0.001)
    monkeypatch.setattr(run, "LEAST_S", 0)
    results = Results(machine=Machine.of(session.device), versions={})
    run_rows([_row("zipf", endless)], session, results, tmp_path / "cpu.json")
    assert "took longer" in results.rows["zipf"].measured.skipped


def test_a_row_that_loses_the_alarm_hears_it_again(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(_: Session) -> Measured:
        with contextlib.suppress(run.Overran):
            endless(_)
        return endless(_)

    monkeypatch.setattr(run, "GRACE", 0.001)
    monkeypatch.setattr(run, "LEAST_S", 0)
    monkeypatch.setattr(run, "AGAIN_S", 0.01)
    results = Results(machine=Machine.of(session.device), versions={})
    run_rows([_row("zipf", deaf)], session, results, tmp_path / "cpu.json")
    assert "took longer" in results.rows["zipf"].measured.skipped


def test_a_row_that_fails_half_way_keeps_what_it_has(session: Session, tmp_path: Path) -> None:
    def half(run: Session) -> Measured:
        run.so_far = Measured(notes={"the first": "half"})
        raise RuntimeError("no luck")

    results = Results(machine=Machine.of(session.device), versions={})
    run_rows([_row("zipf", half)], session, results, tmp_path / "cpu.json")
    assert results.rows["zipf"].measured.notes == {"the first": "half", "broken off": "RuntimeError: no luck"}


def test_a_row_that_is_broken_off_keeps_its_rounds(session: Session, tmp_path: Path) -> None:
    def late(run: Session) -> Measured:
        run.side_by_side(lambda: 2.0, lambda: 1.0, rounds=2)
        raise RuntimeError("no luck")

    results = Results(machine=Machine.of(session.device), versions={})
    run_rows([_row("zipf", late)], session, results, tmp_path / "cpu.json")
    kept = results.rows["zipf"].measured
    assert kept.ours is not None
    assert kept.theirs is not None
    assert (kept.ours.values, kept.theirs.values) == ((1.0, 1.0), (2.0, 2.0))


def test_orders_follow_zipf_and_are_the_same_every_time() -> None:
    models = [f"m{index}" for index in range(8)]
    asked = [order.model for order in zipf_orders(models, 64, 2000)]
    assert asked == [order.model for order in zipf_orders(models, 64, 2000)]
    assert asked.count("m0") / asked.count("m1") == pytest.approx(2, rel=0.2)
    assert asked.count("m0") / asked.count("m7") == pytest.approx(8, rel=0.4)


def test_no_order_is_embedded_twice(session: Session) -> None:
    drawn = [order.prompt for _ in range(3) for order in session.new_orders("m", 64, 4)]
    drawn += [order.prompt for turn in range(3) for order in zipf_orders(["m", "n"], 64, 4, turn=turn)]
    assert len(set(drawn)) == 24


def endless(_: Session) -> Measured:
    while True:
        pass


def _row(name: str, measure: object, needs: Needs | None = None) -> Row:
    return Row(name=name, number="0", title="a row", baseline="", measure=measure, needs=needs, bound_s={"cpu": 10})  # type: ignore[arg-type]
