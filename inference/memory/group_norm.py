"""Group normalisation on a CPU that gives a row the same bits at any position in the batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

SPLIT_FROM = 1024
"""Positions from which torch's channels_last kernel divides the batch, instead of the groups, among threads."""


def normalise_rows_alone(network: torch.nn.Module) -> None:
    """Make every GroupNorm of ``network`` process one row at a time where torch would split rows.

    From ``SPLIT_FROM`` positions on, torch divides rows × positions evenly among the threads and adds up their partial
    sums. With three threads, the second row is split at other positions than the first, and so is rounded differently.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(norm: torch.nn.GroupNorm, input: Tensor) -> Tensor:  # noqa: A002 (as torch calls it)
    if input.shape[0] == 1 or input[0, 0].numel() < SPLIT_FROM:
        return torch.nn.GroupNorm.forward(norm, input)
    return torch.cat([torch.nn.GroupNorm.forward(norm, row) for row in torch.split(input, 1)])
