"""Convolution kernels on a CPU, in the memory layout that oneDNN reads.

oneDNN converts a plain kernel to that layout at every call, which takes longer than the convolution itself for large
kernels and small pictures: most of a step of Stable Diffusion. Here it is done once, when a kernel is loaded.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from inference.devices import cpu_computes_bf16

WORTH = 2**16
"""Elements in a kernel from which packing it is worth it."""
SHAPES = ((1, 4), (8, 8), (1, 32), (8, 32), (1, 64))
"""Batch sizes and latent sides used to test whether the layout depends on them."""


@lru_cache(maxsize=256)
def is_packed(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether kernels of this shape (outputs, inputs, height, width) are kept packed on this machine.

    Only in bf16, where packed and plain kernels give the same bits, and only where the layout is the same for every
    input: a kernel in the wrong layout is converted at every call, and slowly.
    """
    if dtype is not torch.bfloat16 or len(shape) != 4 or shape[2:] == (1, 1) or math.prod(shape) < WORTH:
        return False
    if not cpu_computes_bf16():
        return False
    kernel = torch.arange(math.prod(shape), dtype=torch.int16).view(torch.bfloat16).reshape(shape)
    return len({_bytes(_packed_for(kernel, *likely)) for likely in SHAPES}) == 1


def pack(kernel: Tensor) -> Tensor:
    """The kernel in oneDNN's layout, as a tensor that only its convolutions can read."""
    return _packed_for(kernel.contiguous(), *SHAPES[0])


def unpack(packed: Tensor) -> Tensor:
    """The plain kernel."""
    return packed.to_dense().contiguous()


def convolve_packed(convolution: Any) -> None:
    """Make a ``Conv2d`` compute with the kernel in its attribute ``packed``."""
    convolution.forward = partial(_forward, convolution)


def _forward(convolution: Any, input: Tensor) -> Tensor:  # noqa: A002 (as torch calls it)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        input,
        convolution.packed,
        convolution.bias,
        convolution.padding,
        convolution.stride,
        convolution.dilation,
        convolution.groups,
        "none",
        [],
        "",
    )
    return result


def _packed_for(kernel: Tensor, batch: int, side: int) -> Tensor:
    padding = [size // 2 for size in kernel.shape[2:]]
    likely = [batch, kernel.shape[1], side, side]
    with torch.inference_mode():
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, padding, [1, 1], [1, 1], 1, likely)
    return packed


def _bytes(packed: Tensor) -> bytes:
    address, size = torch.ops.mkldnn.data_ptr(packed), torch.ops.mkldnn._nbytes(packed)
    return ctypes.string_at(address, size)
