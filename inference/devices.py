"""Chooses the device that draws and its precision: by what is available and fast, or as configured."""

from __future__ import annotations

import logging
import os
import shutil

import torch
from safetensors import SafetensorError

from inference.container import memory_limit, processor_limit
from inference.errors import DeviceUnknown, InferenceError, PrecisionUnknown

log = logging.getLogger("inference.devices")

AUTO = "auto"
_NUMBERED = (("cuda", torch.cuda), ("xpu", torch.xpu))

PRECISIONS = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def available_devices() -> tuple[str, ...]:
    """The devices that torch can drive here, best first: ``cuda:0``, ``cuda:1``, ``xpu:0``, ``mps``, ``cpu``."""
    numbered = [f"{kind}:{i}" for kind, driver in _NUMBERED for i in range(_count(driver))]
    return (*numbered, *(["mps"] if torch.backends.mps.is_available() else []), "cpu")


def choose_device(name: str = AUTO) -> torch.device:
    """The device called ``name`` (``cuda`` means its first), or the best one for ``auto``.

    Raises:
        InferenceError: with DeviceUnknown.
    """
    devices = available_devices()
    if name == AUTO:
        if devices[0] == "cpu" and shutil.which("nvidia-smi"):
            log.warning(
                "There is an NVIDIA driver, but torch %s finds no GPU, so pictures are drawn on the CPU. Either this "
                "build of torch is for CPUs only, or the driver is too old for it: see Settings in README.md. If this "
                "is what you want, set DEVICES=cpu.",
                torch.__version__,
            )
        return torch.device(devices[0])
    for device in devices:
        if name in (device, device.partition(":")[0]):
            return torch.device(device)
    raise InferenceError(DeviceUnknown(device=name, available=devices))


def siblings(device: torch.device) -> tuple[str, ...]:
    """The other devices of the same kind."""
    alike = (name for name in available_devices() if name.partition(":")[0] == device.type)
    return tuple(name for name in alike if name != str(device) and device.type != "cpu")


def choose_precision(device: torch.device, name: str = AUTO) -> torch.dtype:
    """The element type of the networks: fp16 on accelerators, bf16 on processors that compute with it, else fp32.

    Raises:
        InferenceError: with PrecisionUnknown.
    """
    if name == AUTO:
        if device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if cpu_computes_bf16() else torch.float32
    if name not in PRECISIONS:
        raise InferenceError(PrecisionUnknown(precision=name, available=(AUTO, "fp32", "fp16", "bf16")))
    return PRECISIONS[name]


def default_cache_bytes(device: torch.device) -> int:
    """Half of the memory that the device computes in, in bytes; the rest is for drawing and for other programs."""
    match device.type:
        case "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
        case "xpu":
            total = torch.xpu.get_device_properties(device).total_memory
        case "mps":
            total = torch.mps.recommended_max_memory()
        case _:
            total = _machine_bytes()
    return int(total) // 2


def default_host_cache_bytes(device: torch.device) -> int:
    """A quarter of the machine's memory, in bytes, divided among its GPUs; 0 if the device itself computes in it."""
    if device.type not in {"cuda", "xpu"}:
        return 0
    return _machine_bytes() // 4 // (1 + len(siblings(device)))


def _machine_bytes() -> int:
    """The machine's memory, or the container's limit if that is lower."""
    total = 8 * 2**30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(total, memory_limit() or total)


def steady_threads() -> int:
    """How many threads compute on a CPU: the largest power of two that torch would use and the CPU limit allows.

    torch splits a tensor evenly among its threads, and the last elements of each part take another code path and may
    round differently. Batch sizes are powers of two as well, so every row is split at the same places. With three or
    six threads, a row's bits depended on its place in the batch.
    """
    threads = torch.get_num_threads()
    threads = max(1, min(threads, int(processor_limit() or threads)))
    return 1 << (threads.bit_length() - 1)


def name_of(precision: torch.dtype) -> str:
    """torch's own name without its prefix: ``bfloat16``."""
    return str(precision).removeprefix("torch.")


def _count(driver: object) -> int:
    return int(driver.device_count()) if driver.is_available() else 0  # type: ignore[attr-defined]


def cpu_computes_bf16() -> bool:
    """Whether oneDNN reports bf16 support; without AVX512-BF16 or AMX, bf16 is emulated and slower than fp32. On macOS,
    torch has no oneDNN."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


_OUT_OF_MEMORY = (
    "out of memory",  # MPS and CUDA itself
    "Invalid buffer size",  # MPS, for a tensor larger than Metal takes
    "can't allocate memory",  # a CPU under Linux and macOS
    "Cannot allocate memory",  # the same, where files are mapped
    "not enough memory",  # a CPU under Windows
    "os error 1455",  # the same, where files are mapped: “The paging file is too small”
    "error code: <1455>",
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "unable to find an engine",  # cuDNN's convolutions, none of which found room
    "_OUT_OF_DEVICE_MEMORY",  # XPU
    "_OUT_OF_RESOURCES",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or one that it was raised from, says that memory ran out: mostly by its type, else by its
    message."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, InferenceError):
        if _says_out_of_memory(link):
            return True
        link = link.__cause__ or link.__context__
    return False


def _says_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = isinstance(error, RuntimeError | OSError | SafetensorError)
    return told and any(words in str(error) for words in _OUT_OF_MEMORY)
