"""How a network's tensors are laid out in one flat buffer, and how the network is rebuilt around them."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from inference.devices import name_of
from inference.memory.construction import ONE_AT_A_TIME
from inference.memory.network import ReadNetwork

ALIGNMENT = 64
"""Bytes that vector instructions load at once. Matrix products may round differently at other addresses."""
PIECE = 2**31
"""Maximum bytes of a device allocation, unless one tensor is larger: Intel's Arc A770 allocates no more than 4 GiB, and
SDXL's denoiser has 5."""

DIFFUSERS = (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny)
TRANSFORMERS = (CLIPTextModel, CLIPTextModelWithProjection)
CLASSES: Mapping[str, Any] = {kind.__name__: kind for kind in (*DIFFUSERS, *TRANSFORMERS)}
"""Classes that a network may have; nothing else is ever instantiated, whatever files ask for."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A parameter or buffer: its offset in bytes, its type and shape.

    ``dtype`` is torch's name without its prefix. ``packed``: in memory it is kept outside the buffer, in the layout
    that the CPU reads (see ``inference.memory.packing``).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    packed: bool = False

    @property
    def end(self) -> int:
        """Offset just past its last byte."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return self.offset + prod(self.shape) * dtype.itemsize

    def of(self, flat: Tensor, *, start: int = 0) -> Tensor:
        """The tensor as a view of the flat buffer (uint8), or of a piece of it that begins at ``start``."""
        mine = flat[self.offset - start : self.end - start]
        return mine.view(getattr(torch, self.dtype)).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Architecture:
    """A network class with its configuration and the layout of its tensors: equal ones can take each other's weights.

    ``config`` is JSON, without entries that only describe where the files came from.
    """

    kind: str
    config: str
    tensors: tuple[TensorSpec, ...]
    bytes: int

    @classmethod
    def of(
        cls,
        network: ReadNetwork,
        precision: torch.dtype,
        *,
        channels_last: bool = False,
        is_packed: Callable[[tuple[int, ...], torch.dtype], bool] | None = None,
    ) -> Architecture:
        """The architecture of ``network`` with its floating-point tensors in ``precision``.

        ``channels_last`` concerns the kernels of convolutions, ``is_packed`` also the weights of linear layers; what is
        packed is laid out last.
        """
        module = network.module
        layers = (path for path, layer in module.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
        packable = {f"{path}.weight" for path in layers}
        plain: list[tuple[str, Tensor, torch.dtype]] = []
        packed: list[tuple[str, Tensor, torch.dtype]] = []
        for name, tensor in named_tensors(module):
            dtype = precision if tensor.is_floating_point() else tensor.dtype
            last = is_packed is not None and name in packable and is_packed(tuple(tensor.shape), dtype)
            (packed if last else plain).append((name, tensor, dtype))
        tensors: list[TensorSpec] = []
        end = 0
        for name, tensor, dtype in (*plain, *packed):
            last = len(tensors) >= len(plain)
            order = torch.channels_last if channels_last and tensor.ndim == 4 and not last else torch.contiguous_format
            stride = torch.empty(tensor.shape, device="meta", memory_format=order).stride()
            tensors.append(TensorSpec(name, name_of(dtype), (*tensor.shape,), stride, end, packed=last))
            end = _aligned(end + tensor.numel() * dtype.itemsize)
        return cls(kind=type(module).__name__, config=_config_of(module), tensors=tuple(tensors), bytes=end)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Inverse of ``json``; raises ``ValueError``, ``TypeError`` or ``LookupError`` for any other text."""
        fields = json.loads(text)
        specs = [
            TensorSpec(**{**spec, "shape": (*spec["shape"],), "stride": (*spec["stride"],)})
            for spec in fields["tensors"]
        ]
        if fields["kind"] not in CLASSES:
            raise ValueError(f"{fields['kind']} is no network that is known here")
        return cls(**{**fields, "tensors": tuple(specs)})

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """``config``, read."""
        read: Mapping[str, Any] = json.loads(self.config)
        return read

    @cached_property
    def json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex), the same for equal architectures."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @cached_property
    def packed(self) -> tuple[TensorSpec, ...]:
        """The tensors that are kept outside the buffer in memory."""
        return tuple(spec for spec in self.tensors if spec.packed)

    @property
    def plain_bytes(self) -> int:
        """Length of the buffer in memory, which lacks the packed tensors."""
        return self.packed[0].offset if self.packed else self.bytes

    def with_gaps(self) -> Iterator[tuple[TensorSpec, int]]:
        """Every tensor, with the number of unused bytes after it."""
        beginnings = [*(spec.offset for spec in self.tensors[1:]), self.bytes]
        return ((spec, following - spec.end) for spec, following in zip(self.tensors, beginnings, strict=True))

    @cached_property
    def pieces(self) -> tuple[slice, ...]:
        """Slices of the buffer in memory, one per device allocation; no tensor is in two of them."""
        plain = [spec for spec in self.tensors if not spec.packed]
        starts = [0]
        for spec in plain:
            if spec.end - starts[-1] > PIECE and spec.offset > starts[-1]:
                starts.append(spec.offset)
        return tuple(slice(start, end) for start, end in zip(starts, [*starts[1:], self.plain_bytes], strict=True))

    def views(self, pieces: Iterable[Tensor]) -> dict[str, Tensor]:
        """Every tensor that is not packed, by name, as a view of ``pieces`` of the buffer."""
        starts, memory = [piece.start for piece in self.pieces], list(pieces)
        found = ((spec, bisect_right(starts, spec.offset) - 1) for spec in self.tensors if not spec.packed)
        return {spec.name: spec.of(memory[index], start=starts[index]) for spec, index in found}

    def build(self) -> nn.Module:
        """The network in evaluation mode, its parameters on the meta device."""
        kind, config = CLASSES[self.kind], dict(self.settings)
        with ONE_AT_A_TIME, init_empty_weights():
            built = kind(CLIPTextConfig.from_dict(config)) if kind in TRANSFORMERS else kind.from_config(config)
        network: nn.Module = built
        return network.eval().requires_grad_(False)


def named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each once."""
    yield from network.named_parameters()
    yield from network.named_buffers()


def _config_of(network: Any) -> str:
    written = (
        network.config.to_json_string(use_diff=False) if isinstance(network, TRANSFORMERS) else network.to_json_string()
    )
    fields = {
        name: value for name, value in json.loads(written).items() if not name.startswith("_") and name not in NOT_BUILT
    }
    return json.dumps(fields, sort_keys=True)


NOT_BUILT = ("architectures", "dtype", "torch_dtype", "transformers_version")
"""Configuration entries that transformers writes and that do not affect the network."""


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
