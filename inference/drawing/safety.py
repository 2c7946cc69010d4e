"""The safety check: which checker judges a model's pictures, loaded on first use, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path

import torch

from inference.catalog import Catalog
from inference.catalog.entries import Checked, ModelEntry
from inference.devices import is_out_of_memory
from inference.errors import CheckerUnusable, Failure, InferenceError
from inference.loading.checker import Checker, load_classifier, load_own
from inference.loading.damage import MALFORMED, reason_of
from inference.loading.unsupported import UnsupportedError
from inference.memory.cache import ByteCache

KEPT_BYTES = 2 * 2**30
"""On top of the models' budget: the usual classifier takes 0.2 to 0.4 GB, Stable Diffusion's checker 0.6 to 1.2."""


class Safety:
    """The checkers of a catalogue's models on one device, for one thread.

    On a CPU they compute in float32, elsewhere in ``precision``: they are small, and run once per batch and preview.
    """

    def __init__(self, *, catalog: Catalog, device: torch.device, precision: torch.dtype) -> None:
        self._catalog = catalog
        self._device = device
        self._precision = torch.float32 if device.type == "cpu" else precision
        self._checkers: ByteCache[Path, Checker] = ByteCache(KEPT_BYTES)

    @contextmanager
    def checker(self, entry: ModelEntry, on_part: Callable[[], None]) -> Iterator[Checker | None]:
        """The checker for pictures of ``entry``, None if it is harmless; ``on_part`` is called before it is loaded.

        Raises:
            InferenceError: with CheckerMissing or CheckerUnusable.
        """
        if entry.harmless:
            yield None
            return
        folder = self._locate(entry)

        checker = self._checkers.get(folder)
        if checker is None:
            on_part()
            checker = self._load(entry, folder)
            self._checkers.make_room(checker.bytes)
            self._checkers.put(folder, checker, bytes=checker.bytes, cost=1.0)
        with self._checkers.hold(folder):
            yield checker

    def faults(self) -> tuple[Failure, ...]:
        """Why pictures of models on this machine cannot be checked; loads every checker that they need."""
        return tuple(dict.fromkeys(filter(None, map(self._fault, self._catalog.to_be_checked()))))

    def clear(self) -> None:
        """Free the memory of checkers that are not in use."""
        self._checkers.clear()

    def put_away(self) -> None:
        """Move checkers that are in use to host memory until they judge."""
        for folder in self._checkers.keys:
            if checker := self._checkers.peek(folder):
                torch.nn.Module.to(checker.network, device="cpu")

    def _fault(self, entry: ModelEntry) -> Failure | None:
        try:
            with self.checker(entry, on_part=lambda: None):
                return None
        except InferenceError as error:
            return error.failure

    def _locate(self, entry: ModelEntry) -> Path:
        missing = self._catalog.missing_checker(entry)
        if missing is not None:
            raise InferenceError(missing)
        source = self._catalog.checker(entry)
        folder = source.locate() if source else None
        assert folder is not None, "or else it is missing"
        return folder

    def _load(self, entry: ModelEntry, folder: Path) -> Checker:
        try:
            checker = self._read(entry, folder)
            torch.nn.Module.to(checker.network, device=self._device, dtype=self._precision)
            _try(checker, self._device)
        except MALFORMED as error:
            if is_out_of_memory(error):
                raise
            raise InferenceError(CheckerUnusable(path=str(folder), reason=reason_of(error).rstrip("."))) from error
        return checker

    def _read(self, entry: ModelEntry, folder: Path) -> Checker:
        if entry.checked is Checked.OWN:
            return load_own(folder, entry.weights.variant)
        assert self._catalog.safety is not None
        return load_classifier(self._catalog.safety, folder)


def _try(checker: Checker, device: torch.device) -> None:
    """Run it on a black picture: better to learn now that it cannot compute than while somebody waits."""
    (verdict,) = checker.judge(torch.zeros(1, 64, 64, 3, dtype=torch.uint8, device=device))
    if isnan(verdict.score):
        raise UnsupportedError("its scores are not numbers (NaN)")
