"""The catalogue's models in the memory of one device: connects ``inference.loading`` with ``inference.memory``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import Adapter, Batch
from inference.devices import default_cache_bytes, default_host_cache_bytes
from inference.loading import FileHashes, ModelFiles, open_model
from inference.memory.budgets import Budgets
from inference.memory.disk import Disk, default_budget
from inference.memory.layout import Architecture
from inference.memory.model import LoadedModel
from inference.memory.network import ReadNetwork
from inference.memory.packing import is_packed
from inference.memory.part import flatten
from inference.memory.shelves import Shelves
from inference.memory.store import ModelStore

ModelKey: TypeAlias = tuple[str, tuple[Adapter, ...]]
"""A name in the catalogue, and the LoRAs on top: each set of LoRAs makes a different model."""


def key_of(batch: Batch) -> ModelKey:
    """The model that draws ``batch``."""
    return batch.model, batch.adapters


def model_store(
    catalog: Catalog, *, device: torch.device, precision: torch.dtype, budgets: Budgets, compiler: str | None = None
) -> ModelStore[ModelKey]:
    """An empty store of the catalogue's models. Using one raises what ``open_model`` and ``ModelFiles`` raise.

    ``compiler`` is the name of a ``torch.compile`` backend for the live networks; None leaves them uncompiled.
    """
    disk = _disk(budgets, f"{_kind(device)} {precision} {compiler is not None}")
    hashes = FileHashes(budgets.folder if disk else None)

    def open_files(key: ModelKey) -> ModelFiles:
        name, adapters = key
        return open_model(catalog, catalog[name], adapters, hashes)

    return ModelStore(
        shelves=Shelves(
            device,
            device_bytes=default_cache_bytes(device) if budgets.device is None else budgets.device,
            host_bytes=default_host_cache_bytes(device) if budgets.host is None else budgets.host,
            compiler=compiler,
        ),
        disk=disk,
        open_files=open_files,
        bytes_per_parameter=precision.itemsize,
        lay_out=layout_on(device, precision, compiled=compiler is not None),
    )


def _kind(device: torch.device) -> str:
    """What devices must have in common to share weights. CPU packing depends on instruction set and torch version."""
    if device.type != "cpu":
        return device.type
    return f"cpu {torch.backends.cpu.get_cpu_capability()} {torch.__version__}"


def _disk(budgets: Budgets, variant: str) -> Disk | None:
    if budgets.folder is None or budgets.disk == 0:
        return None
    budget = default_budget(budgets.folder) if budgets.disk is None else budgets.disk
    return Disk(budgets.folder, budget, variant=variant)


def load_model(
    catalog: Catalog,
    entry: ModelEntry,
    adapters: tuple[Adapter, ...],
    *,
    device: torch.device,
    precision: torch.dtype,
    on_part: Callable[[], None] = lambda: None,
    hashes: FileHashes | None = None,
) -> LoadedModel:
    """Load one model by itself; ``on_part`` is called before each part of it is read, and may raise.

    Raises:
        InferenceError: with WeightsMissing, WeightsUnreadable, UnknownAdapter or AdapterUnfit.
    """
    files = open_model(catalog, entry, adapters, hashes)
    networks = files.networks(on_part)
    architectures = layout_on(device, precision, compiled=False)(networks)
    parts = {name: flatten(network, architectures[name]) for name, network in networks.items()}
    files.check_unchanged()
    manifest = files.manifest({name: part.label for name, part in parts.items()})
    shelves = Shelves(device, device_bytes=sys.maxsize, host_bytes=sys.maxsize)
    shelves.keep(parts.values(), seconds=0.0)
    return LoadedModel(
        manifest,
        live=lambda part: shelves.live(manifest.parts[part], {}),
        put_away=lambda parts, *, lose=False: shelves.put_away([manifest.parts[part] for part in parts], {}, lose=lose),
    )


def layout_on(
    device: torch.device, precision: torch.dtype, *, compiled: bool
) -> Callable[[Mapping[str, ReadNetwork]], dict[str, Architecture]]:
    """How the weights of a model's networks are laid out on ``device``.

    channels_last pays off on the CPU and in compiled code; in eager code on CUDA, GroupNorm undoes it at every step.
    Kernels are packed on the CPU, unless compiled code reads them. Stock SDXL's VAE overflows in fp16, as its
    configuration says (``force_upcast``), and is kept in fp32 instead. VAEs of other families seldom do, whatever the
    default of that entry; those that do decode again (see ``Stages.decode``).
    """
    channels_last = device.type == "cpu" or compiled
    packs = is_packed if device.type == "cpu" and not compiled else None

    def lay_out(networks: Mapping[str, ReadNetwork]) -> dict[str, Architecture]:
        def precision_of(network: ReadNetwork) -> torch.dtype:
            overflows = "text_encoder_2" in networks and getattr(network.module.config, "force_upcast", False)
            return torch.float32 if precision is torch.float16 and overflows else precision

        return {
            name: Architecture.of(network, precision_of(network), channels_last=channels_last, is_packed=packs)
            for name, network in networks.items()
        }

    return lay_out
