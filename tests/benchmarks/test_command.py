"""The command: which rows it runs, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import GPU_MINUTES, main, rows_for
from benchmarks.results import Results
from benchmarks.rows import BY_IMPORTANCE, ROWS
from benchmarks.run import FILES_S, GRACE, LEAST_S, allowance, bounds_of
from tests.benchmarks.test_results import MACHINE, SWITCH


def test_rows_are_chosen_by_name_and_by_what_the_machine_can_run() -> None:
    assert [row.name for row in rows_for("zipf, switch", "cpu")] == ["switch", "zipf"]
    assert rows_for("throughput-sdxl", "cpu") == []
    assert [row.name for row in rows_for("", "cuda")] == list(BY_IMPORTANCE)


def test_names_of_rows_are_unique_and_each_of_them_has_its_turn() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(BY_IMPORTANCE)


def test_on_a_gpu_every_row_has_its_bound_within_the_run_whatever_the_others_take() -> None:
    left = 60 * GPU_MINUTES - FILES_S
    rows = rows_for("", "cuda")
    kept = bounds_of(rows, "cuda")
    for turn, row in enumerate(rows):
        assert kept[turn] >= (LEAST_S if row.told_by else row.bound_s["cuda"])
        allowed = allowance(row.bound_s["cuda"], kept_s=kept[turn], later_s=sum(kept[turn + 1 :]), left_s=left)
        assert allowed >= kept[turn]
        left -= allowed  # the row is broken off only then
    assert left >= 0


def test_a_row_that_another_one_tells_takes_its_time_only_by_itself() -> None:
    assert bounds_of(rows_for("event-loop,event-loop-p999", "cuda"), "cuda")[1] == LEAST_S
    assert bounds_of(rows_for("event-loop-p999", "cuda"), "cuda")[0] > LEAST_S


def test_where_time_is_short_what_comes_later_is_lost() -> None:
    assert allowance(20, kept_s=20, later_s=200, left_s=100) == 20
    assert allowance(20, kept_s=20, later_s=200, left_s=10) == 10
    assert allowance(20, kept_s=20, later_s=200, left_s=225) == 25
    assert allowance(20, kept_s=20, later_s=200, left_s=math.inf) == 20 * GRACE


def test_a_row_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "nothing", "--device", "cpu"]) == 2
    assert "throughput" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu"]) == 2
    assert "no usable GPU" in capsys.readouterr().err


def test_the_plot_shows_how_the_cost_grows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with make bench")
    from benchmarks.plot import draw

    Results(machine=MACHINE, versions={}, rows={"switch": SWITCH}).save(tmp_path / "cpu.json")
    draw(tmp_path / "cpu.json", tmp_path / "plot.svg")
    assert "this bot" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert (tmp_path / "plot.svg").stat().st_size < 64 * 1024
