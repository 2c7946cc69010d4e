"""Human-readable byte counts, in the powers of ten that disks and downloads are sold by."""

from __future__ import annotations


def readable(amount: int) -> str:
    """A short form of ``amount`` bytes: ``2.1 GB``, ``340 MB``, ``12 kB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if amount >= size:
            value = amount / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{amount} B"
