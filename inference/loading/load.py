"""Loading a catalogue entry: its parts in float32, LoRAs merged into them, then cast and sent to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.catalog import Catalog
from inference.contract import Adapter
from inference.devices import is_out_of_memory
from inference.entries import ModelEntry
from inference.errors import AdapterUnfit, InferenceError, WeightsMissing, WeightsUnreadable
from inference.loading.damage import MALFORMED, check_finite, reason_of
from inference.loading.fingerprint import combine, file_digest
from inference.loading.formats import Format, Networks, Opened, Pipeline, open_with, parts_for, pipelines_for
from inference.loading.group_norm import normalise_rows_alone
from inference.loading.loaded import LoadedModel, TextStage
from inference.loading.lora import UnfitError, merge_lora, read_lora
from inference.recognise import FAMILY_TITLES, read_info
from inference.sources import Source


@dataclass(frozen=True, slots=True)
class _Lora:
    name: str
    path: Path
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Where everything of one model lies: ``networks`` are by part, most of them in the ``pipeline`` itself."""

    name: str
    pipeline: Pipeline
    networks: dict[str, Networks]
    loras: tuple[_Lora, ...]

    def fingerprint(self) -> str:
        names = [*(name for stage in self.pipeline.text_stages for name in stage), "vae", "unet"]
        lines = [
            *(f"{name} {self.networks.get(name, self.pipeline).digest(name)}" for name in names),
            f"scheduler {self.pipeline.digest('scheduler')}",
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
        _merge(entry, networks, lora)
    on_part()
    with _reading(entry.name, parts.pipeline.path):
        placed = {name: _place(network, device, precision) for name, network in networks.items()}
        return _assemble(parts, placed)


def _find(catalog: Catalog, entry: ModelEntry, adapters: tuple[Adapter, ...]) -> _Parts:
    pipeline = _open(entry, entry.weights, pipelines_for(entry.prediction))
    parts = (*(encoder for _, encoder in pipeline.text_stages), "vae", "unet")
    own: dict[str, Networks] = dict.fromkeys(parts, pipeline)
    others = {"unet": entry.unet, "vae": entry.vae}
    loras = [_Lora("lcm_lora", _locate(entry, entry.lcm_lora), 1.0)] if entry.lcm_lora else []
    for style in (*entry.styles, *adapters):
        source = catalog.adapter(style.name, entry.family).weights
        loras.append(_Lora(style.name, _locate(entry, source, style.name), style.strength))
    return _Parts(
        name=entry.name,
        pipeline=pipeline,
        networks=own | {part: _open(entry, source, parts_for(pipeline)) for part, source in others.items() if source},
        loras=tuple(loras),
    )


def _open(entry: ModelEntry, source: Source, formats: tuple[Format[Opened], ...]) -> Opened:
    path = _locate(entry, source)
    with _reading(entry.name, path):
        return open_with(formats, path, source.variant)


def _locate(entry: ModelEntry, source: Source, adapter: str | None = None) -> Path:
    path = source.locate()
    if path is None:
        raise InferenceError(WeightsMissing(model=entry.name, path=source.whereabouts(adapter or entry.name)))
    return path


@contextmanager
def _reading(model: str, path: Path) -> Iterator[None]:
    """Turns whatever a damaged file provokes into WeightsUnreadable; running out of memory is not the file's fault."""
    try:
        yield
    except MALFORMED as error:
        if is_out_of_memory(error):
            raise
        raise InferenceError(WeightsUnreadable(model=model, path=str(path), reason=reason_of(error))) from error


def _read_networks(parts: _Parts, on_part: Callable[[], None]) -> dict[str, torch.nn.Module]:
    networks = {}
    for part, where in parts.networks.items():
        on_part()
        with _reading(parts.name, where.path):
            networks[part] = where.network(part)
            check_finite(part, networks[part])
    return networks


def _merge(entry: ModelEntry, networks: dict[str, torch.nn.Module], lora: _Lora) -> None:
    with _reading(entry.name, lora.path):
        try:
            merge_lora(networks, read_lora(lora.path), lora.strength)
        except UnfitError as unfit:
            what, needs = read_info(lora.path).words, f"a LoRA for {FAMILY_TITLES[entry.family]}"
            failure = AdapterUnfit(adapter=lora.name, model=entry.name, what=what, needs=needs, detail=str(unfit))
            raise InferenceError(failure) from unfit


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
    pipeline = parts.pipeline
    unet: Any = networks["unet"]
    stages = tuple(
        TextStage(tokenizer=pipeline.tokenizer(tokenizer), encoder=networks[encoder])
        for tokenizer, encoder in pipeline.text_stages
    )
    return LoadedModel(
        name=parts.name,
        text=stages,
        unet=unet,
        vae=networks["vae"],
        schedule=pipeline.schedule(),
        guidance_dim=unet.config.time_cond_proj_dim,
        zero_empty_negative=pipeline.zero_empty_negative,
        fingerprint=parts.fingerprint(),
    )
