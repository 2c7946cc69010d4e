"""Group normalisation on a CPU: the same bits for a row at any position in the batch, and no delay from thin groups."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

SPLIT_FROM = 1024
"""Positions from which torch's channels_last kernel divides the batch, instead of the groups, among threads."""
THIN = 16
"""Channels per group from which the kernel for fewer positions fills its vectors with bf16."""


def normalise_evenly(network: torch.nn.Module) -> None:
    """Make every GroupNorm of ``network`` process one row at a time where torch would split rows, and thin groups in
    the contiguous layout.

    From ``SPLIT_FROM`` positions on, torch divides rows × positions evenly among the threads and adds up their partial
    sums. With three threads, the second row is split at other positions than the first, and so is rounded differently.

    Below that, it reads the channels of one group at a position at once. In bf16, where these are fewer than ``THIN``,
    converting the tensor to the contiguous layout and back is up to ten times faster. Compiled code has kernels of its
    own.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(norm: torch.nn.GroupNorm, input: Tensor) -> Tensor:  # noqa: A002 (as torch calls it)
    normalise = partial(torch.nn.GroupNorm.forward, norm)
    if input[0, 0].numel() >= SPLIT_FROM:
        return normalise(input) if len(input) == 1 else torch.cat([normalise(row) for row in torch.split(input, 1)])
    if input.ndim == 4 and not input.is_contiguous() and _is_thin(norm, input.dtype):
        return normalise(input.contiguous()).contiguous(memory_format=torch.channels_last)
    return normalise(input)


def _is_thin(norm: torch.nn.GroupNorm, precision: torch.dtype) -> bool:
    channels = norm.num_channels // norm.num_groups
    return channels < THIN and precision is torch.bfloat16 and not torch.compiler.is_compiling()
