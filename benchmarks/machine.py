"""The machine that is measured: what it is, and its peak rate of multiplication."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.notebook import synchronise

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``kind`` names the file that its results are kept in: ``cpu`` or ``cuda``."""

    kind: str
    name: str
    cores: int
    memory_gib: float
    device_memory_gib: float | None
    system: str

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
        return cls(
            kind=device.type,
            name=gpu.name if gpu else _processor(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            device_memory_gib=round(gpu.total_memory / 2**30, 1) if gpu else None,
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        )


def versions() -> dict[str, str]:
    """The versions of the libraries that the figures depend on."""
    return {name: version(name) for name in LIBRARIES}


def ceiling(device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """The device's peak rates in ``precision``, in TFLOP/s: of a large matrix product and of a convolution."""
    side = 8192 if device.type == "cuda" else 2048
    batch, channels, cells = (16, 640, 64) if device.type == "cuda" else (2, 320, 32)
    left, right = (torch.randn(side, side, device=device).to(precision) for _ in range(2))
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device)
    layer = layer.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(batch, channels, cells, cells, device=device).to(precision)
    image = image.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return {
            "matmul": _rate(lambda: left @ right, 2 * side**3, device),
            "convolution": _rate(lambda: layer(image), 2 * batch * cells**2 * channels**2 * 9, device),
        }


def _rate(act: Callable[[], object], flops: float, device: torch.device) -> float:
    """The best of several runs, because a ceiling is wanted."""
    repeats = 10 if device.type == "cuda" else 1
    best = float("inf")
    for _ in range(6):
        synchronise(device)
        started = time.perf_counter()
        for _ in range(repeats):
            act()
        synchronise(device)
        best = min(best, (time.perf_counter() - started) / repeats)
    return flops / best / 1e12


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
