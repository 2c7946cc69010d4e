"""Host memory for weights; pinned (page-locked) if a GPU copies from it, which is several times faster."""

from __future__ import annotations

import contextlib
import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

EXACT = "pinned_max_cached_size_mb:16"
"""A setting of torch's allocator. Without it, pinned memory is allocated in powers of two and cached when it is freed:
weights of 5 GB took 8, which no budget counted."""


def take_exact_sizes() -> None:
    """Make torch pin exactly as much memory as requested, and free it; torch before 2.13 still rounds up."""
    with contextlib.suppress(AttributeError, RuntimeError, ValueError):
        told = torch._C._accelerator_getAllocatorSettings()
        if "pinned_max_cached_size_mb" not in told:
            torch._C._accelerator_setAllocatorSettings(f"{told},{EXACT}" if told else EXACT)


def host_memory(size: int, *, locked: bool) -> Tensor:
    """``size`` uninitialised bytes (uint8); pinned if ``locked``, unless the machine cannot pin any more."""
    if locked:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            log.warning("%d MB could not be page-locked: %s", size // 10**6, str(error).partition("\n")[0])
    return torch.empty(size, dtype=torch.uint8)
