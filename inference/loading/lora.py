"""LoRA files in diffusers', peft's or kohya's names, and merging: W = W0 + Σ strength · alpha / rank · up · down."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from inference.catalog.header import read_header
from inference.catalog.lora_names import parse_name
from inference.loading.ldm import Names, unet_names
from inference.memory.network import ReadNetwork, Update


class LoraError(ValueError):
    """A LoRA file that cannot be merged; the message says why."""


class UnfitError(LoraError):
    """A sound file, but not a LoRA for this model; the message says what shows it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A layer of a network: its path with underscores for dots, which is common to all naming schemes."""

    component: str
    layer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A low-rank update of one layer: ``up`` (out, rank) times ``down`` (rank, in), flattened for convolutions."""

    down: Tensor
    up: Tensor
    scale: float

    def add_to(self, weight: Tensor, strength: float) -> None:
        """Add the update to a layer's weight (out, in, …), float32, in place and in one pass over it."""
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        weight.view(len(weight), -1).addmm_(up, down, alpha=strength * self.scale)


def read_lora(path: Path) -> dict[Target, Factors]:
    """The low-rank updates in a LoRA file.

    Raises:
        LoraError: a key is of an algorithm other than LoRA, or half of a pair is missing.
        safetensors.SafetensorError, OSError: the file is damaged.
    """
    found: dict[Target, dict[str, Tensor]] = {}
    read_header(path)
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            target, part = _parse(key)
            found.setdefault(target, {})[part] = file.get_tensor(key)
        scaling = _Scaling.of(file.metadata() or {})
    return {target: _factors(target, parts, scaling) for target, parts in found.items()}


def merge_lora(networks: Mapping[str, ReadNetwork], changes: Mapping[Target, Factors], strength: float) -> None:
    """Make ``changes`` at ``strength`` updates of ``networks`` (by component name).

    Raises:
        LoraError: a layer is not in the networks or has another shape; nothing is changed then.
    """
    layers = _Layers.of(networks)
    found = [(layers.fitting(target, factors), factors) for target, factors in changes.items()]
    for layer, factors in found:
        layer.updates.append(partial(factors.add_to, strength=strength))


def _parse(key: str) -> tuple[Target, str]:
    parsed = parse_name(key)
    if parsed is None:
        raise UnfitError(f"it has “{key[:100]}”")
    component, layer, part = parsed
    return Target(component, _flat(layer)), part


def _flat(path: str) -> str:
    """The path with underscores for dots, without what attention processors and older text encoders add to it."""
    flat = path.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")
    return f"{flat}_0" if flat.endswith("_to_out") else flat


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer's weight: its shape, and where its updates are."""

    shape: torch.Size
    _updates: dict[str, list[Update]]
    _name: str

    @property
    def updates(self) -> list[Update]:
        return self._updates.setdefault(self._name, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """The layers that may be changed; ``originals``: the denoiser's names in Stable Diffusion's code."""

    layers: Mapping[Target, _Layer]
    originals: Names

    @classmethod
    def of(cls, networks: Mapping[str, ReadNetwork]) -> _Layers:
        layers = {
            Target(name, _flat(path)): _Layer(layer.weight.shape, network.updates, f"{path}.weight")
            for name, network in networks.items()
            for path, layer in network.module.named_modules()
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        }
        config: Any = networks["unet"].module.config if "unet" in networks else None
        names = unet_names(len(config.block_out_channels), config.layers_per_block) if config else Names(())
        return cls(layers=layers, originals=names)

    def fitting(self, target: Target, factors: Factors) -> _Layer:
        """The layer that ``factors`` change; raises ``UnfitError`` if there is none or it has another shape."""
        layer = self.layers.get(target)
        if layer is None:
            renamed = self.originals.rename(target.layer, "_") if target.component == "unet" else None
            layer = self.layers.get(Target(target.component, renamed or target.layer))
        if layer is None:
            raise UnfitError(f"it changes {target.layer} of the {target.component}, which this model does not have")
        changed, shape = (factors.up.shape[0], factors.down[0].numel()), tuple(layer.shape)
        if changed != (shape[0], math.prod(shape[1:])) or factors.up[0].numel() != factors.down.shape[0]:
            raise UnfitError(f"it changes {target.layer} in the shape {changed}; the model has {shape}")
        return layer


@dataclass(frozen=True, slots=True)
class _Scaling:
    """peft's configuration, which newer diffusers writes beside the weights; empty for most files."""

    settings: Mapping[str, object]

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> _Scaling:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        return cls(settings if isinstance(settings, dict) else {})

    def scale(self, target: Target, rank: int) -> float:
        """peft's scale: alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRAs; alpha is the rank by default."""
        alpha = self.settings.get(f"{target.component}.lora_alpha", rank)
        pattern = self.settings.get(f"{target.component}.alpha_pattern")
        if isinstance(pattern, dict):
            alpha = {_flat(path): value for path, value in pattern.items()}.get(target.layer, alpha)
        stabilised = self.settings.get(f"{target.component}.use_rslora") is True
        if not isinstance(alpha, int | float):
            raise LoraError(f"alpha of {target.layer} is no number")
        return float(alpha) / (rank**0.5 if stabilised else rank)


def _factors(target: Target, parts: Mapping[str, Tensor], scaling: _Scaling) -> Factors:
    if not {"down", "up"} <= set(parts):
        raise LoraError(f"{target.layer} has only {', '.join(sorted(parts))}")
    rank = len(parts["down"])
    if not rank:
        raise LoraError(f"{target.layer} is of rank 0")
    if not all(bool(parts[part].sum(dtype=torch.float32).isfinite()) for part in ("down", "up")):
        raise LoraError(f"{target.layer} holds values that are not finite")
    scale = parts["alpha"].item() / rank if "alpha" in parts else scaling.scale(target, rank)
    if not math.isfinite(scale):
        raise LoraError(f"alpha of {target.layer} is not finite")
    return Factors(down=parts["down"], up=parts["up"], scale=scale)
