"""``python -m inference check``: load everything that is on this machine, and say what is wrong with the rest."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import torch

from inference.catalog import Catalog
from inference.catalog.entries import AdapterEntry, Family, ModelEntry
from inference.catalog.sources import Source
from inference.contract import Adapter
from inference.drawing.models import load_model
from inference.drawing.previews import load_tiny
from inference.drawing.safety import Safety
from inference.errors import CheckerMissing, InferenceError, describe
from inference.loading.damage import MALFORMED, reason_of

Say = Callable[[str], None]
MEGA = 1e6
CPU = torch.device("cpu")


def check_all(catalog: Catalog, say: Say) -> bool:
    """Load every model, every LoRA, and what checks and previews pictures, one after the other, in float32 on the CPU;
    True if none of them is unusable.

    What is not on this machine is told, with the way to get it, but counts as nothing wrong.
    """
    sound: dict[Family, ModelEntry] = {}
    well = True
    for entry in catalog:
        if not catalog.on_disk(entry):
            _say_missing(catalog, entry, say)
        elif _loads(catalog, entry, None, say):
            sound.setdefault(entry.family, entry)
        else:
            well = False
    for family in Family:
        for adapter in catalog.adapters(family):
            well &= _check_adapter(catalog, adapter, sound.get(family), say)
    for family, source in catalog.previews.items():
        well &= _check_previews(family, source, say)
    well &= _check_checkers(catalog, say)
    for file in catalog.unusable:
        say(f"✗ {file.path}: {file.reason}")
    return well and not catalog.unusable


def _say_missing(catalog: Catalog, entry: ModelEntry, say: Say) -> None:
    say(f"· {entry.name} is not here")
    for source in catalog.missing(entry.name):
        say(f"    {source.whereabouts(entry.name)}")


def _check_adapter(catalog: Catalog, adapter: AdapterEntry, model: ModelEntry | None, say: Say) -> bool:
    if adapter.weights.locate() is None:
        say(f"· LoRA {adapter.name} is not here\n    {adapter.weights.whereabouts(adapter.name)}")
        return True
    if model is None:
        say(f"· LoRA {adapter.name}: no model of its family ({adapter.family}) is here to try it on")
        return True
    return _loads(catalog, model, adapter, say)


def _check_previews(family: Family, source: Source, say: Say) -> bool:
    folder = source.locate()
    if folder is None:
        say(f"· previews of {family} are not here: {source.path or source.hub}")
        return True
    try:
        load_tiny(folder, source.variant, device=CPU, precision=torch.float32)
    except MALFORMED as error:
        say(f"✗ previews of {family}: {folder}: {reason_of(error)}")
        return False
    say(f"✓ previews of {family}")
    return True


def _check_checkers(catalog: Catalog, say: Say) -> bool:
    """A checker that is not here is no fault: whoever wants none need not have one."""
    faults = Safety(catalog=catalog, device=CPU, precision=torch.float32).faults()
    for fault in faults:
        say(f"{'·' if isinstance(fault, CheckerMissing) else '✗'} {describe(fault)}")
    return all(isinstance(fault, CheckerMissing) for fault in faults)


def _loads(catalog: Catalog, entry: ModelEntry, adapter: AdapterEntry | None, say: Say) -> bool:
    name = f"LoRA {adapter.name}" if adapter else entry.name
    started = time.perf_counter()
    try:
        model = load_model(
            catalog,
            entry,
            (Adapter(name=adapter.name),) if adapter else (),
            device=CPU,
            precision=torch.float32,
        )
    except InferenceError as error:
        say(f"✗ {name}: {error}")
        return False
    seconds, size = time.perf_counter() - started, model.bytes
    del model
    gc.collect()
    say(f"✓ {name}: {f'fits {entry.name}' if adapter else f'{size / MEGA:,.0f} MB in float32'}, {seconds:.1f} s")
    return True
