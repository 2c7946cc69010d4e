"""The catalogue's models in the memory of one device: where reading and keeping meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch

from inference.catalog import Catalog
from inference.contract import Adapter
from inference.entries import ModelEntry
from inference.loading import ModelFiles, open_model
from inference.memory.disk import Disk
from inference.memory.layout import Architecture
from inference.memory.model import LoadedModel
from inference.memory.part import flatten
from inference.memory.shelves import Shelves
from inference.memory.store import ModelStore

ModelKey: TypeAlias = tuple[str, tuple[Adapter, ...]]
"""A name of the catalogue, and the LoRAs on top: with each set of them it is another model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Bytes that loaded weights may take on the device and, where that has memory of its own, in the machine's."""

    device: int
    host: int = 0


def model_store(
    catalog: Catalog, *, device: torch.device, precision: torch.dtype, budgets: Budgets, disk: Disk | None = None
) -> ModelStore[ModelKey]:
    """An empty store of the catalogue's models. Using one raises what ``open_model`` and ``ModelFiles`` raise."""

    def open_files(key: ModelKey) -> ModelFiles:
        name, adapters = key
        return open_model(catalog, catalog[name], adapters)

    return ModelStore(
        shelves=Shelves(device, device_bytes=budgets.device, host_bytes=budgets.host),
        disk=disk,
        open_files=open_files,
        architecture=architecture_on(device, precision),
    )


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
