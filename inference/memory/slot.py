"""Slots: one live network per architecture, which the weights of different checkpoints are put into in turn.

So a switch builds and compiles nothing. On a CPU it moves pointers; on other devices it is one copy into memory at
fixed addresses, which compiled code and captured graphs refer to.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
import torch._dynamo
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn

from inference.memory.attention import attend_in_rows
from inference.memory.group_norm import normalise_evenly
from inference.memory.layout import Architecture
from inference.memory.packing import compute_packed
from inference.memory.part import Copy, Part

SHAPES = 64
"""Maximum shapes (sizes and buckets) that a class of networks is compiled for; further ones run eagerly."""


class Slot:
    """A live network. ``holds`` is the digest of the weights that are in it; ``is_compiled``: whether calls compile it.

    ``pointed``: whether its tensors point into the parts' memory; otherwise parts are copied into memory of its own.
    ``compiler``: a ``torch.compile`` backend for what computes most, the denoiser and the decoder; None: eager code.
    """

    def __init__(
        self, architecture: Architecture, device: torch.device, compiler: str | None = None, *, pointed: bool = True
    ) -> None:
        self.architecture = architecture
        self.network = architecture.build()
        self.holds: str | None = None
        self._pointed = pointed
        if device.type == "cpu":
            normalise_evenly(self.network)
            attend_in_rows(self.network)
        sizes = [] if self._pointed else [piece.stop - piece.start for piece in architecture.pieces]
        self._memory = [torch.zeros(size, dtype=torch.uint8, device=device) for size in sizes]
        self._nothing = {
            spec.name: torch.empty(0, dtype=getattr(torch, spec.dtype), device=device) for spec in architecture.tensors
        }
        self._tensors = _give_memory(self.network, self._nothing if self._pointed else architecture.views(self._memory))
        self.is_compiled = compiler is not None and _compile(self.network, compiler)
        self._packed = {
            spec.name: self.network.get_submodule(spec.name.removesuffix(".weight")) for spec in architecture.packed
        }
        for layer in self._packed.values():
            compute_packed(layer)

    @property
    def bytes(self) -> int:
        """Size of its own memory in bytes."""
        return sum(piece.numel() for piece in self._memory)

    def put(self, part: Part | Copy) -> None:
        """Put these weights into the network."""
        if self.holds == part.label.digest:
            return
        self.holds = None
        if isinstance(part, Part) and self._pointed:
            self._point(part.views)
        else:
            for mine, theirs in zip(self._memory, part.pieces, strict=True):
                mine.copy_(theirs, non_blocking=mine.is_cuda)
        self.holds = part.label.digest

    def let_go(self, digest: str) -> None:
        """Forget these weights, so that their memory can be freed."""
        if self._pointed and self.holds == digest:
            self._point(self._nothing)
            self.holds = None

    def leave(self) -> None:
        """Release the network. Compiled code has reference cycles, so only the garbage collector frees its memory."""
        del self.network
        if self.is_compiled:
            gc.collect()

    def _point(self, views: dict[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            if name in self._packed:
                vars(self._packed[name])["packed"] = views[name]  # a module's own setter takes 15 times as long
            else:
                tensor.data = views[name]


def _give_memory(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make ``tensors`` the parameters and buffers of a network built without memory; returns them by name."""
    given: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        beginning = f"{path}." if path else ""
        for name in module._parameters:
            if beginning + name in tensors:
                parameter = nn.Parameter(tensors[beginning + name], requires_grad=False)
                module._parameters[name] = given[beginning + name] = parameter
        for name in module._buffers:
            if beginning + name in tensors:
                module._buffers[name] = given[beginning + name] = tensors[beginning + name].detach()
    return given


def _compile(network: Any, compiler: str) -> bool:
    """Compile one static graph per batch shape: assuming a dynamic size costs more than compiling again.

    Returns False for a network that computes too little to be worth it.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    match network:
        case UNet2DConditionModel():
            network.compile(backend=compiler, dynamic=False)
        case AutoencoderKL() | AutoencoderTiny():
            network.decoder.compile(backend=compiler, dynamic=False)
        case _:
            return False
    return True
