"""One network's weights as one flat buffer, identified by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from inference.memory.layout import Architecture, named_tensors
from inference.memory.network import ReadNetwork
from inference.memory.packing import pack, unpack
from inference.memory.page_locked import host_memory


@dataclass(frozen=True, slots=True)
class Label:
    """Describes a part without its weights. ``digest``: SHA-256 (hex) of architecture and weights; parts of equal
    digest are the same, whatever files they came from."""

    digest: str
    architecture: Architecture

    @property
    def bytes(self) -> int:
        return self.architecture.bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """``flat``: uint8, in host memory. Never written to again.

    It is as long as the architecture says; on a CPU, without the tensors in ``packed``.
    """

    label: Label
    flat: Tensor
    packed: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return self.label.bytes

    @cached_property
    def views(self) -> dict[str, Tensor]:
        """Every tensor by name, as the live network takes it."""
        return self.label.architecture.views(self.pieces) | dict(self.packed)

    @property
    def pieces(self) -> list[Tensor]:
        """``flat``, divided into device allocations."""
        return [self.flat[piece] for piece in self.label.architecture.pieces]

    def copied_to(self, device: torch.device) -> Copy:
        """Copy the weights to a device; on CUDA the copy may still be in progress on return.

        Elsewhere that would not be faster: XPU copies unpinned memory to pinned memory first, and keeps that.
        """
        beside = device.type == "cuda"
        return Copy(self.label, [piece.to(device, non_blocking=beside, copy=True) for piece in self.pieces])

    def settled(self, *, pinned: bool = False) -> Part:
        """A copy in memory of its own, ready for use, of a part whose weights are all in ``flat``.

        ``pinned``: in pinned memory, as far as there is any.
        """
        architecture = self.label.architecture
        flat = host_memory(architecture.plain_bytes, locked=pinned)
        flat.copy_(self.flat[: architecture.plain_bytes])
        packed = {spec.name: pack(spec.of(self.flat)) for spec in architecture.packed}
        return Part(label=self.label, flat=flat, packed=packed)

    def whole(self) -> Tensor:
        """All weights in one flat buffer, as written to disk."""
        if not self.packed:
            return self.flat
        flat = torch.zeros(self.bytes, dtype=torch.uint8)
        flat[: self.flat.numel()] = self.flat
        for spec in self.label.architecture.packed:
            spec.of(flat).copy_(unpack(self.packed[spec.name], spec.shape))
        return flat


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A part's weights in a device's own memory. ``arrives``: the event that a GPU's stream has to wait for before it
    reads them; None: no wait."""

    label: Label
    memory: list[Tensor]
    arrives: torch.cuda.Event | None = None

    @property
    def pieces(self) -> list[Tensor]:
        """The weights, for use in the current stream; their memory is not reused before that use is over."""
        if self.arrives is not None:
            stream = torch.cuda.current_stream(self.memory[0].device)
            stream.wait_event(self.arrives)
            for piece in self.memory:
                piece.record_stream(stream)
        return self.memory


def flatten(network: ReadNetwork, architecture: Architecture, *, pinned: bool = False) -> Part:
    """Copy the weights of ``network``, updated, into the layout of ``architecture``; the network is left as it is.

    Hashing takes longest, and runs alongside in its own thread.
    """
    flat = host_memory(architecture.plain_bytes, locked=pinned)
    packed: dict[str, Tensor] = {}
    tensors = dict(named_tensors(network.module))
    told = hashlib.sha256(architecture.digest.encode())
    with ThreadPoolExecutor(1, "weights-hasher") as hasher:
        for spec, gap in architecture.with_gaps():
            weight = network.updated(spec.name, tensors[spec.name])
            if not spec.packed:
                spec.of(flat).copy_(weight)
                flat[spec.end : spec.end + gap].zero_()
                hasher.submit(told.update, flat[spec.offset : spec.end + gap].numpy().data)
            else:
                weights = weight.to(getattr(torch, spec.dtype)).contiguous()
                packed[spec.name] = pack(weights)
                hasher.submit(told.update, weights.flatten().view(torch.uint8).numpy().data)
                hasher.submit(told.update, bytes(gap))
    return Part(label=Label(told.hexdigest(), architecture), flat=flat, packed=packed)
