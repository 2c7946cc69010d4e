"""Devices and precisions: what is chosen, and what is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from inference.devices import (
    available_devices,
    choose_device,
    choose_precision,
    cpu_computes_bf16,
    is_out_of_memory,
    name_of,
    steady_threads,
)
from inference.errors import DeviceUnknown, InferenceError, PrecisionUnknown


def test_auto_takes_the_best_device_there_is() -> None:
    assert str(choose_device()) == available_devices()[0]


@pytest.mark.skipif(available_devices()[0] != "cpu", reason="there is something better than the processor")
def test_a_gpu_that_torch_does_not_find_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    choose_device()
    assert caplog.text == ""
    driver = tmp_path / "nvidia-smi"
    driver.touch(mode=0o755)
    choose_device("cpu")
    assert caplog.text == ""
    choose_device()
    assert "There is an NVIDIA driver" in caplog.text


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "", "c"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(InferenceError) as refusal:
        choose_device(name)
    assert refusal.value.failure == DeviceUnknown(device=name, available=available_devices())


def test_a_processor_that_computes_in_bf16_does_and_others_use_fp32() -> None:
    expected = torch.bfloat16 if cpu_computes_bf16() else torch.float32
    assert choose_precision(torch.device("cpu")) is expected


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_accelerators_compute_in_fp16(kind: str) -> None:
    assert choose_precision(torch.device(kind)) is torch.float16


@pytest.mark.parametrize("name", ["fp32", "float32"])
def test_a_precision_can_be_asked_for_by_either_name(name: str) -> None:
    assert name_of(choose_precision(torch.device("cuda"), name)) == "float32"


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InferenceError) as refusal:
        choose_precision(torch.device("cpu"), "int4")
    assert isinstance(refusal.value.failure, PrecisionUnknown)


@pytest.mark.parametrize(("torchs", "ours"), [(1, 1), (2, 2), (3, 2), (6, 4), (8, 8)])
def test_threads_are_a_power_of_two(monkeypatch: pytest.MonkeyPatch, torchs: int, ours: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: torchs)
    monkeypatch.setattr("inference.devices.processor_limit", lambda: None)
    assert steady_threads() == ours
    monkeypatch.setattr("inference.devices.processor_limit", lambda: 1)
    assert steady_threads() == 1


def test_running_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)."))
    assert is_out_of_memory(RuntimeError("Invalid buffer size: 19.45 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert is_out_of_memory(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert is_out_of_memory(
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)")
    )
    assert is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    assert is_out_of_memory(
        SafetensorError("The paging file is too small for this operation to complete. (os error 1455)")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    assert not is_out_of_memory(ValueError("a painting of a computer that is out of memory"))


def test_what_is_raised_because_memory_ran_out_counts_as_well() -> None:
    wrapped = OSError("Unable to load weights from checkpoint file")  # as libraries do
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)
    told = InferenceError(DeviceUnknown(device="abacus", available=()))
    told.__cause__ = MemoryError()
    assert not is_out_of_memory(told)
