"""The heap of the C library, where a CPU's tensors are: memory that drawing frees stays there for the next operation.

By default glibc maps every block of more than 32 MiB anew and unmaps it once it is free, so the kernel clears all its
pages again for each operation on a larger picture. With other C libraries nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3), from ``malloc.h``."""


def keep_freed() -> None:
    """From now on, keep freed blocks of any size, except those of weights: threads that read them have heaps of their
    own, which do not take large blocks."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Give all free memory back to the operating system, in up to a few tenths of a second."""
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """None where the C library is another one."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
