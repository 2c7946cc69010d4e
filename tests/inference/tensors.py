"""The tensors that are really alive, whoever holds them."""

from __future__ import annotations

import gc

import torch
from torch import Tensor
from torch.nn import Parameter


def alive(*, collect: bool = True) -> list[Tensor]:
    """Every tensor with storage of its own kind; what compilers trace with and leave behind has none. Without
    ``collect``, those in cycles of references as well, which nobody else can reach."""
    while collect and gc.collect():  # what a cycle lets go when it is collected can be part of another one
        pass
    return [thing for thing in gc.get_objects() if type(thing) in {Tensor, Parameter}]


def alive_bytes(*, collect: bool = True) -> int:
    """What all tensors on the CPU take, in bytes, each storage counted once; tensors packed for a kernel left out."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in alive(collect=collect)
        if tensor.device.type == "cpu" and tensor.layout is torch.strided
    }
    return sum(storages.values())
