"""The command: which rows it runs, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main, rows_for
from benchmarks.results import Results
from benchmarks.rows import ROWS
from tests.benchmarks.test_results import MACHINE, SWITCH


def test_rows_are_chosen_by_name_and_by_what_the_machine_can_run() -> None:
    assert [row.name for row in rows_for("zipf, switch", "cpu")] == ["switch", "zipf"]
    assert rows_for("throughput-sdxl", "cpu") == []
    assert [row.name for row in rows_for("", "cuda")] == [row.name for row in ROWS]


def test_names_of_rows_are_unique_and_every_row_on_a_gpu_is_bounded_well_within_the_run() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert sum(row.bound_s["cuda"] for row in ROWS) <= 8 * 60


def test_a_row_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "nothing", "--device", "cpu"]) == 2
    assert "throughput" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu"]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_the_plot_shows_how_the_cost_grows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with make bench")
    from benchmarks.plot import draw

    Results(machine=MACHINE, versions={}, rows={"switch": SWITCH}).save(tmp_path / "cpu.json")
    draw(tmp_path / "cpu.json", tmp_path / "plot.svg")
    assert "this bot" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert (tmp_path / "plot.svg").stat().st_size < 64 * 1024
