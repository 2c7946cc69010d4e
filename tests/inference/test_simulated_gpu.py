"""What is written for GPUs, on a simulated one, so that it is tested on machines without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FILES = ("drawing/test_graphs.py", "drawing/test_safety.py", "memory/test_shelves.py")
REAL = ("given_back", "own_numbers", "arrive", "page_locked")
"""Words in the names of tests that ask how a real one keeps memory and works ahead."""


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="other versions of torch have other inner parts")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.timeout(300)
def test_tensors_stay_on_their_device_and_graphs_compute_what_the_loop_does() -> None:
    files = [f"tests/inference/{file}" for file in FILES]
    words = f"not ({' or '.join(REAL)})"
    command = [sys.executable, "-m", "pytest", "-p", "tests.simulated_cuda.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "gpu", "-k", words, *files],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    assert "passed" in last
    assert "skipped" not in last
