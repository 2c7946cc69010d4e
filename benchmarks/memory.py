"""Peak memory of a piece of work: what torch reserved on a GPU, or else what the process used (Linux).

On a GPU, what is reserved counts, not what is allocated: a graph that is replayed allocates nothing, but has memory.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.memory.heap import give_back

SHARED_POOL = (0, 0)
"""torch's name for the memory that belongs to no graph."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Level:
    """Bytes in use before, and the most that were in use at once."""

    before: int
    most: int = 0

    @property
    def above(self) -> int:
        """What the work used in addition to ``before``."""
        return max(0, self.most - self.before)


class Peak:
    """Watches one kind of memory; where it cannot be read, everything is 0.

    On a GPU, only a side's ``first`` turn is watched, with torch's cache emptied before it; later turns find it full.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.most = 0
        """The most in use during anything watched so far."""

    @contextmanager
    def watching(self, *, first: bool = True, graphs: bool = False) -> Iterator[Level]:
        """Sets the level at the block's end. With ``graphs``, memory of CUDA graphs captured before counts as part of
        the work."""
        gc.collect()
        if self._device.type == "cuda" and not first:
            yield Level(0)
            return
        level = Level(self._reset() - (_bytes_of_graphs() if graphs and self._device.type == "cuda" else 0))
        yield level
        level.most = self._highest()
        self.most = max(self.most, level.most)

    def _reset(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            return int(torch.cuda.memory_reserved(self._device))
        if not _CLEAR.exists():
            return 0
        give_back()
        _CLEAR.write_text("5", encoding="ascii")  # the high-water mark starts again at what is resident now
        return _kilobytes("VmRSS")

    def _highest(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_reserved(self._device))
        return _kilobytes("VmHWM")


def _bytes_of_graphs() -> int:
    """What torch has reserved for CUDA graphs: the segments in a pool of their own."""
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    return sum(int(segment["total_size"]) for segment in segments if tuple(segment["segment_pool_id"]) != SHARED_POOL)


def _kilobytes(name: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
