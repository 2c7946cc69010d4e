"""A pytest plugin: from its import on, torch has the simulated device, in all threads of this process."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # before anything is replaced, as it lists what torch has

from tests.simulated_cuda import runtime
from tests.simulated_cuda.tensor import Calling, Dispatching

SOURCE = Path(__file__).with_name("guard.cpp")
MEMORY = 8 * 2**30


def install() -> None:
    """Replace what a build of torch for CPUs lacks."""
    _load_guard()
    cuda: Any = torch.cuda
    cuda._lazy_init = cuda.empty_cache = cuda.set_device = _nothing
    cuda.is_available = cuda.is_initialized = lambda: True
    cuda.device_count, cuda.current_device = lambda: 1, lambda: 0
    cuda.get_device_properties = lambda device: SimpleNamespace(name="simulated", total_memory=MEMORY)
    cuda.Stream, cuda.Event, cuda.stream = runtime.Stream, runtime.Event, runtime.InStream
    cuda.current_stream, cuda.default_stream = runtime.current_stream, runtime.default_stream
    cuda.synchronize = torch.accelerator.synchronize = runtime.wait_for_the_device
    cuda.CUDAGraph, cuda.graph_pool_handle = runtime.Graph, runtime.Graph.new_pool
    library: Any = torch._C
    library._host_emptyCache = library._cuda_clearCublasWorkspaces = _nothing
    library._cuda_releasePool = library._cuda_endAllocateToPool = _nothing
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    run = threading.Thread.run

    def run_with_the_device(thread: threading.Thread) -> None:
        _enter()
        run(thread)

    threading.Thread.run = run_with_the_device
    _enter()


def _enter() -> None:
    """From now on, this thread has the device."""
    torch._C._set_only_lift_cpu_tensors(True)
    Calling().__enter__()
    Dispatching().__enter__()


def _load_guard() -> None:
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "guard.so"
        command = ["g++", "-std=c++20", "-shared", "-fPIC", str(SOURCE), f"-I{root / 'include'}", f"-L{root / 'lib'}"]
        subprocess.run([*command, "-lc10", "-o", str(library)], check=True)
        ctypes.CDLL(str(library))


def _nothing(*_: Any) -> None:
    """What has no meaning here."""


install()
