"""One network's weights as one flat buffer, known by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from inference.memory.layout import Architecture, named_tensors


@dataclass(frozen=True, slots=True)
class Label:
    """What a part is, without its weights. ``digest``: SHA-256 (hex) of architecture and weights; parts of equal digest
    are the same, whatever files they came from."""

    digest: str
    architecture: Architecture

    @property
    def bytes(self) -> int:
        return self.architecture.bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """``flat``: uint8, as long as the architecture says, in the machine's memory or a device's. Never written to
    again."""

    label: Label
    flat: Tensor

    @property
    def bytes(self) -> int:
        return self.label.bytes

    @cached_property
    def views(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        return self.label.architecture.views(self.flat)

    def copied(self, into: Tensor) -> Part:
        """The same weights in other memory, which may still be on their way there."""
        return Part(label=self.label, flat=into.copy_(self.flat, non_blocking=True))


def flatten(network: nn.Module, architecture: Architecture, *, pinned: bool = False) -> Part:
    """The weights of ``network`` as ``architecture`` wants them; the network itself is left as it is.

    ``pinned`` (page-locked) memory reaches a GPU faster.
    """
    flat = torch.zeros(architecture.bytes, dtype=torch.uint8, pin_memory=pinned)
    for spec, (_, tensor) in zip(architecture.tensors, named_tensors(network), strict=True):
        spec.of(flat).copy_(tensor)
    return Part(label=Label(_digest(architecture, flat), architecture), flat=flat)


def _digest(architecture: Architecture, flat: Tensor) -> str:
    told = hashlib.sha256(architecture.digest.encode())
    told.update(flat.numpy().data)
    return told.hexdigest()
