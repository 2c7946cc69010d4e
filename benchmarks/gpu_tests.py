"""The tests that need a GPU, run in a process of their own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("needs_gpu", "ON_GPU_TOO", "mark.gpu")
"""Strings that identify files with such tests; collecting all other files takes longer than the tests."""
TESTS_S = 75.0
LAST_WORDS = 4000
"""Characters of pytest's output that are shown of a failed run."""


def run_gpu_tests(folder: Path = ROOT / "tests", *, seconds: float = TESTS_S) -> str:
    """Run the tests in ``folder`` that need a GPU; returns pytest's last line, or the end of its output on failure."""
    if importlib.util.find_spec("pytest") is None:
        return "The tests that need a GPU were not run: pytest is not installed here (make test installs it)."
    if seconds <= 0:
        return "The tests that need a GPU were not run: there was no time left (python -m pytest -m gpu)."
    files = [str(path) for path in gpu_test_files(folder)]
    if not files:
        return "There are no tests that need a GPU."
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return f"The tests that need a GPU took longer than {seconds:g} s:\n{_words(error.stdout)[-LAST_WORDS:]}"
    said = _words(done.stdout)
    if done.returncode:
        return f"The tests that need a GPU failed (pytest ended with {done.returncode}):\n{said[-LAST_WORDS:]}"
    return f"The tests that need a GPU: {said.splitlines()[-1]}"


def _words(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace").strip()


def gpu_test_files(folder: Path) -> list[Path]:
    """The test files that mention one of ``MARKS``."""
    files = sorted(folder.rglob("test_*.py"))
    return [path for path in files if any(mark in path.read_text(encoding="utf-8") for mark in MARKS)]
