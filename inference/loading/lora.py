"""LoRA files in diffusers', peft's, kohya's or ComfyUI's names, and merging: W = W0 + Σ strength · alpha / rank · up ·
down, or W0 + Σ strength · difference."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """A weight or bias of a network. ``layer``: its path with underscores for dots, common to all naming schemes."""

    component: str
    layer: str
    parameter: str = "weight"


UNUSED = Target("text_encoder", "text_projection")
"""ComfyUI gives every text encoder a projection; that of the first one affects no picture."""
OLD_ATTENTION = re.compile(r"(self_attn)_to_(q|k|v|out)$")
"""Matches diffusers' names of 2023 for a text encoder's attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A low-rank update of one layer: ``up`` (out, rank) times ``down`` (rank, in), flattened for convolutions."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the product."""
        return len(self.up), self.down[0].numel()

    def fits(self, shape: torch.Size) -> bool:
        """Whether it can be added to a weight of this shape."""
        return self.shape == (shape[0], math.prod(shape[1:])) and self.up[0].numel() == len(self.down)

    def add_to(self, weight: Tensor, strength: float) -> None:
        """Add the update to a layer's weight (out, in, …), float32, in place and in one pass over it."""
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        weight.view(len(weight), -1).addmm_(up, down, alpha=strength * self.scale)


@dataclass(frozen=True, slots=True)
class Difference:
    """An update of a whole weight or bias, in its shape."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def fits(self, shape: torch.Size) -> bool:
        """Whether it can be added to a parameter of this shape."""
        return self.values.shape == shape

    def add_to(self, weight: Tensor, strength: float) -> None:
        """Add the update to a parameter, float32, in place."""
        weight.add_(self.values.float(), alpha=strength)


Change = Factors | Difference


def read_lora(path: Path) -> dict[Target, Change]:
    """The updates in a LoRA file.

    Raises:
        LoraError: a key is of an algorithm other than these, or half of a pair is missing.
        safetensors.SafetensorError, OSError: the file is damaged.
    """
    found: dict[Target, dict[str, Tensor]] = {}
    read_header(path)
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            target, part = _parse(key)
            found.setdefault(target, {})[part] = file.get_tensor(key)
        scaling = _Scaling.of(file.metadata() or {})
    return {target: _change(target, parts, scaling) for target, parts in found.items() if target != UNUSED}


def merge_lora(networks: Mapping[str, ReadNetwork], changes: Mapping[Target, Change], strength: float) -> None:
    """Make ``changes`` at ``strength`` updates of ``networks`` (by component name).

    Raises:
        LoraError: a layer is not in the networks or has another shape; nothing is changed then.
    """
    parameters = _Parameters.of(networks)
    named = {target: parameters.named(target) for target in changes}
    found = [
        (parameters.fitting(name, changes[target]), changes[target])
        for target, name in named.items()
        if name == target or name not in changes  # some files have every layer under both names
    ]
    for parameter, change in found:
        parameter.updates.append(partial(change.add_to, strength=strength))


def _parse(key: str) -> tuple[Target, str]:
    parsed = parse_name(key)
    if parsed is None:
        raise UnfitError(f"it has “{key[:100]}”")
    component, layer, part = parsed
    return Target(component, _flat(layer), "bias" if part == "bias" else "weight"), part


def _flat(path: str) -> str:
    """The path with underscores for dots, without what attention processors and older text encoders add to it."""
    flat = path.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")
    flat = OLD_ATTENTION.sub(r"\1_\2_proj", flat)
    return f"{flat}_0" if flat.endswith("_to_out") else flat


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A layer's weight or bias: its shape, and where its updates are."""

    shape: torch.Size
    _updates: dict[str, list[Update]]
    _name: str

    @property
    def updates(self) -> list[Update]:
        return self._updates.setdefault(self._name, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    """The parameters that may be changed; ``originals``: the denoiser's names in Stable Diffusion's code."""

    parameters: Mapping[Target, _Parameter]
    originals: Names

    @classmethod
    def of(cls, networks: Mapping[str, ReadNetwork]) -> _Parameters:
        parameters = {
            Target(component, _flat(path), kind): _Parameter(parameter.shape, network.updates, name)
            for component, network in networks.items()
            for name, parameter in network.module.named_parameters()
            for path, _, kind in [name.rpartition(".")]
        }
        config: Any = networks["unet"].module.config if "unet" in networks else None
        names = unet_names(len(config.block_out_channels), config.layers_per_block) if config else Names(())
        return cls(parameters=parameters, originals=names)

    def named(self, target: Target) -> Target:
        """``target`` under diffusers' name."""
        if target in self.parameters or target.component != "unet":
            return target
        return replace(target, layer=self.originals.rename(target.layer, "_") or target.layer)

    def fitting(self, target: Target, change: Change) -> _Parameter:
        """The parameter that ``change`` is for; raises ``UnfitError`` if there is none or it has another shape."""
        parameter = self.parameters.get(target)
        if parameter is None:
            raise UnfitError(f"it changes {target.layer} of the {target.component}, which this model does not have")
        if not change.fits(parameter.shape):
            shape = tuple(parameter.shape)
            raise UnfitError(f"it changes {target.layer} in the shape {change.shape}; the model has {shape}")
        return parameter


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


def _change(target: Target, parts: Mapping[str, Tensor], scaling: _Scaling) -> Change:
    if target.parameter not in parts:
        return _factors(target, parts, scaling)
    _check_finite(target, parts[target.parameter])
    return Difference(parts[target.parameter])


def _factors(target: Target, parts: Mapping[str, Tensor], scaling: _Scaling) -> Factors:
    if not {"down", "up"} <= set(parts):
        raise LoraError(f"{target.layer} has only {', '.join(sorted(parts))}")
    rank = len(parts["down"])
    if not rank:
        raise LoraError(f"{target.layer} is of rank 0")
    for part in ("down", "up"):
        _check_finite(target, parts[part])
    scale = parts["alpha"].item() / rank if "alpha" in parts else scaling.scale(target, rank)
    if not math.isfinite(scale):
        raise LoraError(f"alpha of {target.layer} is not finite")
    return Factors(down=parts["down"], up=parts["up"], scale=scale)


def _check_finite(target: Target, values: Tensor) -> None:
    if not bool(values.sum(dtype=torch.float32).isfinite()):
        raise LoraError(f"{target.layer} holds values that are not finite")
