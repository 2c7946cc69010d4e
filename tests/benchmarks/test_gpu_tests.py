"""Which tests need a GPU, and what is said of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.gpu_tests import ROOT, gpu_test_files, run_gpu_tests

MARKED = "import pytest\n\n@pytest.mark.gpu\ndef test_it() -> None:\n    "


def test_every_file_with_tests_for_a_gpu_is_found() -> None:
    names = {path.name for path in gpu_test_files(ROOT / "tests" / "inference")}
    assert {"test_graphs.py", "test_shelves.py"} <= names
    assert len(names) < 10


def test_tests_that_pass_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(f"{MARKED}pass\n\ndef test_other() -> None:\n    assert False\n")
    said = run_gpu_tests(tmp_path)
    assert "1 passed" in said
    assert "\n" not in said


def test_a_file_that_cannot_be_imported_is_named_and_does_not_end_the_others(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(f"import no_such_package\n{MARKED}pass\n")
    (tmp_path / "test_b.py").write_text(f"{MARKED}print('the reason'); assert False\n")
    said = run_gpu_tests(tmp_path)
    for words in ("failed", "no_such_package", "the reason", "1 failed"):
        assert words in said


def test_tests_that_take_too_long_say_how_far_they_came(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(f"{MARKED}while True:\n        pass\n")
    assert "longer than 0.5 s" in run_gpu_tests(tmp_path, seconds=0.5)


def test_where_the_rows_have_taken_all_the_time_the_tests_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(f"{MARKED}pass\n")
    assert "no time left" in run_gpu_tests(tmp_path, seconds=-1.0)


def test_without_pytest_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pytest is not installed" in run_gpu_tests(tmp_path)


def test_a_folder_without_such_tests_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_it() -> None:\n    pass\n")
    assert "no tests" in run_gpu_tests(tmp_path)
