"""The C library's heap: what was freed is taken again without the kernel, until it is given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from inference.memory import heap
from inference.memory.heap import give_back, keep_freed

LARGE = 200_000_000
CODE = f"""
import resource
import psutil
from inference.memory.heap import give_back, keep_freed

def touch():
    bytearray({LARGE})

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {{keep}}:
    keep_freed()
touch()
print(faults())
kept = psutil.Process().memory_info().rss
give_back()
print(kept - psutil.Process().memory_info().rss)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")


def in_a_new_process(*, keep: bool) -> tuple[int, int]:
    """Page faults of taking a large block for the second time, and how many bytes were given back afterwards."""
    done = subprocess.run([sys.executable, "-c", CODE.format(keep=keep)], capture_output=True, text=True, check=True)
    faults, returned = done.stdout.split()
    return int(faults), int(returned)


def test_large_blocks_are_taken_again_without_page_faults() -> None:
    usual, _ = in_a_new_process(keep=False)
    faults, _ = in_a_new_process(keep=True)
    assert usual > LARGE // 4096 / 2 or usual > LARGE // 2**21 / 2, "huge pages, or small ones"
    assert faults < usual / 10


def test_weights_are_not_kept() -> None:
    """Threads read them, which have heaps of their own."""
    code = """
import threading, torch, psutil
from inference.memory.heap import keep_freed
keep_freed()
before = psutil.Process().memory_info().rss
reader = threading.Thread(target=lambda: torch.ones(200_000_000, dtype=torch.uint8))
reader.start()
reader.join()
print(psutil.Process().memory_info().rss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000_000


def test_what_is_kept_can_be_given_back() -> None:
    _, returned = in_a_new_process(keep=True)
    assert returned > LARGE * 0.9


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    keep_freed()
    give_back()
