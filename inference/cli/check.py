"""``python -m inference check``: load everything that is on this machine, and report what is wrong with it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from inference.catalog import Catalog
from inference.catalog.entries import AdapterEntry, Family, ModelEntry
from inference.catalog.sources import Source
from inference.contract import Adapter
from inference.drawing.models import load_model
from inference.drawing.previews import load_tiny
from inference.drawing.safety import Safety
from inference.errors import CheckerMissing, InferenceError, describe
from inference.loading import FileHashes
from inference.loading.damage import MALFORMED, reason_of

Say = Callable[[str], None]
MEGA = 1e6
CPU = torch.device("cpu")


def check_all(catalog: Catalog, say: Say) -> bool:
    """Load every model, LoRA, checker and preview autoencoder, one after the other, in float32 on the CPU; True if none
    of them is unusable.

    What is not on this machine is reported, with the way to get it, but is not a fault.
    """
    return _Check(catalog, say).all()


@dataclass(frozen=True, slots=True)
class _Check:
    """Each method reports what it finds, and returns whether all is well."""

    catalog: Catalog
    say: Say
    hashes: FileHashes = field(default_factory=FileHashes)

    def all(self) -> bool:
        sound: dict[Family, ModelEntry] = {}
        well = True
        for entry in self.catalog:
            if not self.catalog.on_disk(entry):
                self._say_missing(entry)
            elif self._loads(entry, None):
                sound.setdefault(entry.family, entry)
            else:
                well = False
        for family in Family:
            for adapter in self.catalog.adapters(family):
                well &= self._adapter(adapter, sound.get(family))
        for family, source in self.catalog.previews.items():
            well &= self._previews(family, source)
        well &= self._checkers()
        for file in self.catalog.unusable:
            self.say(f"✗ {file.path}: {file.reason}")
        return well and not self.catalog.unusable

    def _say_missing(self, entry: ModelEntry) -> None:
        self.say(f"· {entry.name} is not here")
        for source in self.catalog.missing(entry.name):
            self.say(f"    {source.whereabouts(entry.name)}")

    def _adapter(self, adapter: AdapterEntry, model: ModelEntry | None) -> bool:
        if adapter.weights.locate() is None:
            self.say(f"· LoRA {adapter.name} is not here\n    {adapter.weights.whereabouts(adapter.name)}")
            return True
        if model is None:
            self.say(f"· LoRA {adapter.name}: no model of its family ({adapter.family}) is here to try it on")
            return True
        return self._loads(model, adapter)

    def _previews(self, family: Family, source: Source) -> bool:
        folder = source.locate()
        if folder is None:
            self.say(f"· previews of {family} are not here: {source.path or source.hub}")
            return True
        try:
            load_tiny(folder, source.variant, device=CPU, precision=torch.float32)
        except MALFORMED as error:
            self.say(f"✗ previews of {family}: {folder}: {reason_of(error)}")
            return False
        self.say(f"✓ previews of {family}")
        return True

    def _checkers(self) -> bool:
        """A missing checker is not a fault: if the check is turned off, none is needed."""
        faults = Safety(catalog=self.catalog, device=CPU, precision=torch.float32).faults()
        for fault in faults:
            self.say(f"{'·' if isinstance(fault, CheckerMissing) else '✗'} {describe(fault)}")
        return all(isinstance(fault, CheckerMissing) for fault in faults)

    def _loads(self, entry: ModelEntry, adapter: AdapterEntry | None) -> bool:
        name = f"LoRA {adapter.name}" if adapter else entry.name
        adapters = (Adapter(name=adapter.name),) if adapter else ()
        started = time.perf_counter()
        try:
            model = load_model(self.catalog, entry, adapters, device=CPU, precision=torch.float32, hashes=self.hashes)
        except InferenceError as error:
            self.say(f"✗ {name}: {error}")
            return False
        seconds, size = time.perf_counter() - started, model.bytes
        del model
        gc.collect()
        self.say(
            f"✓ {name}: {f'fits {entry.name}' if adapter else f'{size / MEGA:,.0f} MB in float32'}, {seconds:.1f} s"
        )
        return True
