"""Tests that only a GPU can answer."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch

Test = TypeVar("Test")


def needs_gpu(test: Test) -> Test:
    """Skip where torch drives no CUDA device."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    return pytest.mark.gpu(skip(test))


ON_GPU_TOO = (
    "cpu",
    pytest.param(
        "cuda:0",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")],
    ),
)
"""Devices to try something on."""
