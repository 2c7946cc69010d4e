"""Group normalisation on a CPU that gives a row the same bits wherever in the batch it stands."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

SPLIT_FROM = 1024
"""Positions from which torch's channels_last kernel divides the batch among threads, instead of groups."""


def normalise_rows_alone(network: torch.nn.Module) -> None:
    """Make every GroupNorm of ``network`` see one row at a time where torch would cut through rows.

    From ``SPLIT_FROM`` positions on, torch divides rows × positions evenly among the threads and adds up the parts.
    With three threads the cuts fall elsewhere in the second row than in the first, and so do the roundings.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(norm: torch.nn.GroupNorm, input: Tensor) -> Tensor:  # noqa: A002 (as torch calls it)
    if input.shape[0] == 1 or input[0, 0].numel() < SPLIT_FROM:
        return torch.nn.GroupNorm.forward(norm, input)
    return torch.cat([torch.nn.GroupNorm.forward(norm, row) for row in torch.split(input, 1)])
