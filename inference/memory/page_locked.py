"""The machine's memory for weights; page-locked where a GPU takes them from it, which is several times faster."""

from __future__ import annotations

import contextlib
import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

EXACT = "pinned_max_cached_size_mb:16"
"""A setting of torch's allocator. Without it, page-locked memory is taken in powers of two and kept when it is free:
weights of 5 GB took 8, and budgets said nothing of it."""


def take_exact_sizes() -> None:
    """Have torch lock as much memory as is asked for, and give it back; an older torch goes on rounding up."""
    with contextlib.suppress(AttributeError, RuntimeError, ValueError):
        told = torch._C._accelerator_getAllocatorSettings()
        if "pinned_max_cached_size_mb" not in told:
            torch._C._accelerator_setAllocatorSettings(f"{told},{EXACT}" if told else EXACT)


def host_memory(size: int, *, locked: bool) -> Tensor:
    """So many bytes (uint8), not cleared; page-locked if wanted, unless the machine has no more that it may lock."""
    if locked:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            log.warning("%d MB could not be page-locked: %s", size // 10**6, str(error).partition("\n")[0])
    return torch.empty(size, dtype=torch.uint8)
