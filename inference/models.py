"""The catalogue's models in the memory of one device: where reading and keeping meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch

from inference.budgets import Budgets
from inference.catalog import Catalog
from inference.contract import Adapter
from inference.devices import default_cache_bytes, default_host_cache_bytes
from inference.entries import ModelEntry
from inference.loading import ModelFiles, open_model
from inference.memory.disk import Disk, default_budget
from inference.memory.layout import Architecture
from inference.memory.model import LoadedModel
from inference.memory.part import flatten
from inference.memory.shelves import Shelves
from inference.memory.store import ModelStore

ModelKey: TypeAlias = tuple[str, tuple[Adapter, ...]]
"""A name of the catalogue, and the LoRAs on top: with each set of them it is another model."""


def model_store(
    catalog: Catalog, *, device: torch.device, precision: torch.dtype, budgets: Budgets
) -> ModelStore[ModelKey]:
    """An empty store of the catalogue's models. Using one raises what ``open_model`` and ``ModelFiles`` raise."""

    def open_files(key: ModelKey) -> ModelFiles:
        name, adapters = key
        return open_model(catalog, catalog[name], adapters)

    return ModelStore(
        shelves=Shelves(
            device,
            device_bytes=default_cache_bytes(device) if budgets.device is None else budgets.device,
            host_bytes=default_host_cache_bytes(device) if budgets.host is None else budgets.host,
        ),
        disk=_disk(budgets, f"{device.type} {precision}"),
        open_files=open_files,
        architecture=architecture_on(device, precision),
    )


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
) -> LoadedModel:
    """One model by itself; ``on_part`` is called before each part of it is read and may raise.

    Raises:
        InferenceError: with WeightsMissing, WeightsUnreadable, UnknownAdapter or AdapterUnfit.
    """
    files, architecture = open_model(catalog, entry, adapters), architecture_on(device, precision)
    networks = files.networks(on_part)
    parts = {name: flatten(network, architecture(network)) for name, network in networks.items()}
    sheet = files.sheet({name: part.label for name, part in parts.items()})
    shelves = Shelves(device, device_bytes=sys.maxsize, host_bytes=sys.maxsize)
    shelves.keep(parts.values(), seconds=0.0)
    return LoadedModel(sheet, lambda part: shelves.live(sheet.parts[part], {}))


def architecture_on(device: torch.device, precision: torch.dtype) -> Callable[[torch.nn.Module], Architecture]:
    """How the weights of a network lie on ``device``.

    channels_last pays on the CPU; on CUDA, eager GroupNorm undoes it at every step.
    """
    return partial(Architecture.of, precision=precision, channels_last=device.type == "cpu")
