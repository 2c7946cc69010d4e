"""Peak memory of a stretch of work: the device's on a GPU, the process's elsewhere (Linux)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Level:
    """Bytes in use before, and the most that were in use at once."""

    before: int
    most: int = 0

    @property
    def above(self) -> int:
        """What the work took beside what was there."""
        return max(0, self.most - self.before)


class Peak:
    """Watches one kind of memory; where it cannot be read, everything is 0."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.most = 0
        """The most in use during anything that was watched."""

    @contextmanager
    def watching(self) -> Iterator[Level]:
        """Fills the level in at the block's end."""
        gc.collect()
        level = Level(self._reset())
        yield level
        level.most = self._highest()
        self.most = max(self.most, level.most)

    def _reset(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return int(torch.cuda.memory_allocated(self._device))
        if not _CLEAR.exists():
            return 0
        _CLEAR.write_text("5", encoding="ascii")  # the high-water mark starts again at what is resident now
        return _kilobytes("VmRSS")

    def _highest(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _kilobytes("VmHWM")


def _kilobytes(name: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
