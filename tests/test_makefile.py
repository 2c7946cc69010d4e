"""What ``make setup`` asks of Python, which is played by a script that notes what it was asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = """#!/bin/sh
echo "$*" >> asked
case "$*" in
    *" venv "*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pip ;;
    *ensurepip*) touch .venv/pip ;;
    *"pip --version"*) test -e .venv/pip ;;
esac
"""

FROM_ANOTHER_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "CONSTRAINTS")
"""What the make that runs the tests tells those below it."""
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder to set up in."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "mine.txt").write_text("torch==2.12.0+rocm6.4\n")
    return tmp_path


def asked_by(house: Path, *goals: str) -> str:
    """What Python was asked while ``make`` ran."""
    (house / "asked").write_text("")
    environment = {name: value for name, value in os.environ.items() if name not in FROM_ANOTHER_MAKE}
    subprocess.run(["make", "PYTHON=./python", *goals], cwd=house, env=environment, check=True, capture_output=True)
    return (house / "asked").read_text()


def test_constraints_of_ones_own_hold_until_others_are_named(house: Path) -> None:
    assert "--constraint constraints.txt" in asked_by(house, "setup")
    assert "--constraint mine.txt" in asked_by(house, "setup", "CONSTRAINTS=mine.txt")
    assert "--constraint mine.txt" in asked_by(house, "bench")
    os.utime(house / ".venv" / ".installed", (0, 0))  # as git pull makes pyproject.toml the newer one
    assert "--constraint mine.txt" in asked_by(house, "setup")
    assert asked_by(house, "setup") == ""
    assert "--constraint constraints.txt" in asked_by(house, "setup", "CONSTRAINTS=constraints.txt")


def test_a_working_environment_without_pip_is_kept(house: Path) -> None:
    (house / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(house / "python", house / ".venv" / "bin")
    asked = asked_by(house, "setup")
    assert "ensurepip" in asked
    assert "venv" not in asked


def test_a_broken_environment_is_made_anew(house: Path) -> None:
    (house / ".venv" / "bin").mkdir(parents=True)
    (house / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    assert "-m venv --clear .venv" in asked_by(house, "setup")
