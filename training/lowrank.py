"""Reduces a LoRA to a smaller rank with the least possible loss (Eckart-Young)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

ENDS = ((".lora_A.weight", ".lora_B.weight"), (".lora.down.weight", ".lora.up.weight"))


def truncated(lora: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """``lora`` (diffusers' names, alpha = rank) with no layer above ``rank``, in half precision and contiguous."""
    result = {}
    for key, down in lora.items():
        for down_end, up_end in ENDS:
            if key.endswith(down_end):
                other = key.removesuffix(down_end) + up_end
                smaller = _layer(down.float(), lora[other].float(), rank)
                result[key], result[other] = (part.half().contiguous() for part in smaller)
    return result


def _layer(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``down`` (r, in, …) and ``up`` (out, r, …) with r at most ``rank``; their product hardly changes."""
    if down.shape[0] <= rank:
        return down, up
    left, strength, right = torch.linalg.svd(up.flatten(1) @ down.flatten(1), full_matrices=False)
    root = strength[:rank].sqrt()
    new_down = (root[:, None] * right[:rank]).reshape(rank, *down.shape[1:])
    new_up = (left[:, :rank] * root).reshape(up.shape[0], rank, *up.shape[2:])
    return new_down, new_up
