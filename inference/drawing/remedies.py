"""What gives way where a device is short of memory, and in which order."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from inference.contract import Batch
from inference.devices import is_out_of_memory
from inference.drawing.graphs import GraphedLoop
from inference.drawing.models import ModelKey, key_of
from inference.drawing.previews import Previews
from inference.drawing.safety import Safety
from inference.drawing.sampler import Loop
from inference.memory.heap import give_back
from inference.memory.model import LoadedModel
from inference.memory.store import ModelStore

T = TypeVar("T")


class Remedies:
    """What an engine tries on its device. Every remedy returns whether it is worth another attempt."""

    def __init__(
        self,
        device: torch.device,
        *,
        models: ModelStore[ModelKey],
        loop: Loop,
        safety: Safety | None,
        previews: Previews | None,
    ) -> None:
        self._device = device
        self._models = models
        self._loop = loop
        self._safety = safety
        self._previews = previews
        self._short_for: Batch | None = None

    def were_needed_for(self, batch: Batch) -> bool:
        """Whether others had to make room for ``batch``; then nothing should come back that it can do without."""
        return self._short_for is batch

    def attempt(self, work: Callable[[], T], *remedies: Callable[[], bool]) -> T | None:
        """The result of ``work``: at once, or without graphs, or after more and more of ``remedies``; None if there is
        not enough memory even then."""
        for remedy in (lambda: True, self._drop_graphs, *remedies):
            if remedy():
                done = self._unless_short(work)
                if done is not None:
                    return done
        return None

    def evict_others(self, batch: Batch, model: LoadedModel) -> bool:
        """Remove all but the model in use, and of that one the text encoders, which it needs only at first."""
        self._short_for = batch
        self._models.free(keep=key_of(batch))
        model.put_away(model.text_parts)
        if self._safety is not None:
            self._safety.put_away()
        self._clear()
        return True

    def put_away(self, model: LoadedModel, *parts: str, lose: bool = False) -> bool:
        """Remove parts of the model in use (see ``PutAway``)."""
        have_gone = model.put_away(parts, lose=lose)
        self._sweep()
        return have_gone

    def start_over(self, batch: Batch) -> bool:
        """Remove everything while no model is in use, so that the batch's can come to the device part by part."""
        self._short_for = batch
        self._models.start_over(key_of(batch))
        self._clear()
        return True

    def _drop_graphs(self) -> bool:
        """Free all graphs, whose memory serves nothing else."""
        if not isinstance(self._loop, GraphedLoop) or not len(self._loop):
            return False
        self._loop.clear()
        self._sweep()
        return True

    def _unless_short(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the exception would keep the frames of what failed, and so its tensors, alive.
        self._sweep()
        return None

    def _clear(self) -> None:
        if self._safety is not None:
            self._safety.clear()
        if self._previews is not None:
            self._previews.clear()
        self._sweep()

    def _sweep(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "cpu":
            give_back()
