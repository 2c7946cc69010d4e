"""A network as it was read, before its weights are cast and laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Update: TypeAlias = Callable[[Tensor], None]
"""Changes a weight in place, which it gets in float32."""


@dataclass(frozen=True, slots=True)
class ReadNetwork:
    """``module``: the network on the CPU, its weights in the precision of the files, from which they may be mapped.
    ``updates``: by the name of a weight, what LoRAs add to it.

    Weights are updated one at a time, when they are laid out: a whole network in float32 takes twice the memory of its
    files.
    """

    module: Any
    updates: dict[str, list[Update]] = field(default_factory=dict)

    def updated(self, name: str, weight: Tensor) -> Tensor:
        """The module's ``weight`` called ``name``; in float32 if there are updates for it."""
        if name not in self.updates:
            return weight
        updated = weight.to(torch.float32, copy=True)
        for update in self.updates[name]:
            update(updated)
        return updated
