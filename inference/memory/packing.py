"""Weights of convolutions and linear layers on a CPU, in the memory layout that oneDNN reads.

oneDNN converts plain weights to that layout at every call, which for the large kernels and small pictures of Stable
Diffusion takes longer than the convolution itself. Here it is done once, when they are loaded.

A convolution with a kernel of 1 × 1 is a linear layer over the channels of each position, and faster computed as one.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from inference.devices import cpu_computes_bf16

WORTH = 2**16
"""Elements in a kernel from which packing it is worth it; for linear layers it always is."""
INPUTS = ((1, 4), (8, 8), (1, 32), (8, 32), (1, 64))
"""Batch sizes and latent sides used to test whether the layout depends on them."""


@lru_cache(maxsize=256)
def is_packed(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether weights of this shape are kept packed on this machine: (outputs, inputs) of a linear layer, or (outputs,
    inputs, height, width) of a kernel.

    Only in bf16, where packed and plain weights give the same bits (from torch 2.11 on), and only where the layout is
    the same for every input: weights in the wrong layout are converted at every call, and slowly.
    """
    if dtype is not torch.bfloat16 or not (_is_linear(shape) or math.prod(shape) >= WORTH):
        return False
    if not cpu_computes_bf16():
        return False
    weights = torch.arange(math.prod(shape), dtype=torch.int16).view(torch.bfloat16).reshape(shape)
    return len({_bytes(_packed_for(weights, *likely)) for likely in INPUTS}) == 1


def pack(weights: Tensor) -> Tensor:
    """The weights in oneDNN's layout, as a tensor that only layers made to ``compute_packed`` can read."""
    return _packed_for(weights.contiguous(), *INPUTS[0])


def unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The plain weights."""
    return packed.to_dense().contiguous().view(shape)


def compute_packed(layer: Any) -> None:
    """Make a ``Linear`` or ``Conv2d`` compute with the weights in its attribute ``packed``."""
    pointwise = not isinstance(layer, nn.Linear) and layer.kernel_size == (1, 1)
    forward = _multiply if isinstance(layer, nn.Linear) else _multiply_channels if pointwise else _convolve
    layer.forward = partial(forward, layer)


def _multiply(layer: Any, input: Tensor) -> Tensor:  # noqa: A002 (as torch calls it)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, layer.packed, layer.bias, "none", [], "")
    return product


def _multiply_channels(convolution: Any, input: Tensor) -> Tensor:  # noqa: A002
    return _multiply(convolution, input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _convolve(convolution: Any, input: Tensor) -> Tensor:  # noqa: A002
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


def _is_linear(shape: tuple[int, ...]) -> bool:
    return math.prod(shape[2:]) == 1


def _packed_for(weights: Tensor, batch: int, side: int) -> Tensor:
    with torch.inference_mode():
        packed: Tensor
        if _is_linear(weights.shape):
            packed = torch.ops.mkldnn._reorder_linear_weight(weights.flatten(1), batch * side * side)
        else:
            padding = [size // 2 for size in weights.shape[2:]]
            likely = [batch, weights.shape[1], side, side]
            packed = torch.ops.mkldnn._reorder_convolution_weight(weights, padding, [1, 1], [1, 1], 1, likely)
        return packed


def _bytes(packed: Tensor) -> bytes:
    address, size = torch.ops.mkldnn.data_ptr(packed), torch.ops.mkldnn._nbytes(packed)
    return ctypes.string_at(address, size)
