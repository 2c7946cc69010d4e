"""Loading a catalogue entry: its parts in float32, LoRAs merged into them, then cast and sent to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError

from inference.catalog import Catalog
from inference.contract import Adapter
from inference.devices import is_out_of_memory
from inference.entries import ModelEntry
from inference.errors import InferenceError, WeightsMissing, WeightsUnreadable
from inference.loading.fingerprint import combine, file_digest, folder_digest
from inference.loading.folder import PipelineFolder, UnsupportedError, load_network
from inference.loading.group_norm import normalise_rows_alone
from inference.loading.loaded import LoadedModel, TextStage
from inference.loading.lora import merge_lora, read_lora
from inference.sources import Source

MALFORMED = (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What safetensors, diffusers and transformers raise for files that are damaged or of another shape."""


@dataclass(frozen=True, slots=True)
class _Lora:
    path: Path
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Where everything of one model lies."""

    name: str
    folder: PipelineFolder
    unet: tuple[Path, str | None]
    loras: tuple[_Lora, ...]

    def fingerprint(self) -> str:
        stages = [name for stage in self.folder.text_stages for name in stage]
        lines = [
            *(f"{name} {folder_digest(self.folder.path / name, self.folder.variant)}" for name in [*stages, "vae"]),
            f"unet {folder_digest(*self.unet)}",
            f"scheduler {folder_digest(self.folder.path / 'scheduler', None)}",
            *(f"lora {file_digest(lora.path)} {lora.strength!r}" for lora in self.loras),
        ]
        return combine(lines)


def load_model(
    catalog: Catalog,
    entry: ModelEntry,
    adapters: tuple[Adapter, ...],
    *,
    device: torch.device,
    precision: torch.dtype,
    on_part: Callable[[], None],
) -> LoadedModel:
    """Load ``entry`` with ``adapters`` on top of its own; ``on_part`` is called before each part and may raise.

    Raises:
        InferenceError: with WeightsMissing, WeightsUnreadable or UnknownAdapter.
    """
    parts = _find(catalog, entry, adapters)
    networks = _read_networks(parts, on_part)
    for lora in parts.loras:
        on_part()
        with _reading(entry.name, lora.path):
            merge_lora(networks, read_lora(lora.path), lora.strength)
    on_part()
    with _reading(entry.name, parts.folder.path):
        _check_finite(networks)
        placed = {name: _place(network, device, precision) for name, network in networks.items()}
        return _assemble(parts, placed)


def _find(catalog: Catalog, entry: ModelEntry, adapters: tuple[Adapter, ...]) -> _Parts:
    path = _locate(entry, entry.weights)
    with _reading(entry.name, path):
        folder = PipelineFolder.open(path, entry.weights.variant)
    own_unet = (path / "unet", entry.weights.variant)
    loras = [_Lora(_locate(entry, entry.lcm_lora), 1.0)] if entry.lcm_lora else []
    for style in (*entry.styles, *adapters):
        source = catalog.adapter(style.name, entry.family).weights
        loras.append(_Lora(_locate(entry, source), style.strength))
    return _Parts(
        name=entry.name,
        folder=folder,
        unet=(_locate(entry, entry.unet), entry.unet.variant) if entry.unet else own_unet,
        loras=tuple(loras),
    )


def _locate(entry: ModelEntry, source: Source) -> Path:
    path = source.locate()
    if path is None:
        raise InferenceError(WeightsMissing(model=entry.name, path=source.whereabouts))
    return path


@contextmanager
def _reading(model: str, path: Path) -> Iterator[None]:
    """Turns whatever a damaged file provokes into WeightsUnreadable; running out of memory is not the file's fault."""
    try:
        yield
    except MALFORMED as error:
        if is_out_of_memory(error):
            raise
        raise InferenceError(WeightsUnreadable(model=model, path=str(path), reason=_reason(error))) from error


def _reason(error: BaseException) -> str:
    """One sentence on what is wrong: safetensors' own words where diffusers wrapped them into longer ones."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SafetensorError):
        cause = cause.__cause__ or cause.__context__
    line = str(cause or error).strip().partition("\n")[0]
    return line.partition(". ")[0][:300] or type(error).__name__


def _read_networks(parts: _Parts, on_part: Callable[[], None]) -> dict[str, torch.nn.Module]:
    networks = {}
    for name in (*(encoder for _, encoder in parts.folder.text_stages), "vae"):
        on_part()
        with _reading(parts.name, parts.folder.path / name):
            networks[name] = parts.folder.network(name)
    on_part()
    with _reading(parts.name, parts.unet[0]):
        networks["unet"] = load_network(UNet2DConditionModel, *parts.unet)
    return networks


def _check_finite(networks: dict[str, torch.nn.Module]) -> None:
    for name, network in networks.items():
        for weight, values in network.named_parameters():
            if not bool(values.sum().isfinite()):
                raise UnsupportedError(f"{weight} of the {name} holds values that are not finite")


def _place(network: torch.nn.Module, device: torch.device, precision: torch.dtype) -> torch.nn.Module:
    """Cast and moved. Stock SDXL's VAE overflows in fp16 and says so in its configuration: it stays in fp32 there.

    channels_last pays on the CPU; on CUDA, eager GroupNorm undoes it at every step. ``Module.to`` itself is called
    because diffusers' own warns at every cast to bf16.
    """
    config = getattr(network, "config", None)
    if precision is torch.float16 and getattr(config, "force_upcast", False):
        precision = torch.float32
    if device.type == "cpu":
        torch.nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        normalise_rows_alone(network)
    return torch.nn.Module.to(network, device=device, dtype=precision)


def _assemble(parts: _Parts, networks: dict[str, torch.nn.Module]) -> LoadedModel:
    folder = parts.folder
    unet: Any = networks["unet"]
    stages = tuple(
        TextStage(tokenizer=folder.tokenizer(tokenizer), encoder=networks[encoder])
        for tokenizer, encoder in folder.text_stages
    )
    return LoadedModel(
        name=parts.name,
        text=stages,
        unet=unet,
        vae=networks["vae"],
        schedule=folder.schedule(),
        guidance_dim=unet.config.time_cond_proj_dim,
        zero_empty_negative=folder.zero_empty_negative,
        fingerprint=parts.fingerprint(),
    )
