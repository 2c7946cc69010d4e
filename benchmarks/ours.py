"""Our side: an engine with the orders that the bot's queue would give it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.notebook import STEPS
from inference.batching import batch_of
from inference.catalog import Catalog
from inference.contract import Adapter, Batch, ImageRequest, Progress
from inference.dispatch.queue import Entry, FairQueue
from inference.drawing.engine import Engine

MAX_BATCH = 8
"""The bot's default for MAX_BATCH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order of one picture."""

    model: str
    prompt: str
    seed: int
    side: int
    adapters: tuple[Adapter, ...] = ()
    owner: str = "somebody"

    @property
    def request(self) -> ImageRequest:
        return ImageRequest(
            prompt=self.prompt,
            model=self.model,
            adapters=self.adapters,
            seed=self.seed,
            count=1,
            steps=STEPS,
            guidance=1.0,
            width=self.side,
            height=self.side,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A drawn batch. ``seconds`` is how long the caller waited in total, ``load_s`` of it for the model to load."""

    pixels: NDArray[np.uint8]
    seconds: float
    load_s: float


class Ours:
    """An engine as the worker process creates it, without the process around it."""

    def __init__(self, catalog: Catalog, device: torch.device, **options: Any) -> None:
        self.engine = Engine(catalog=catalog, device=device.type, safety_check=False, **options)

    @property
    def precision(self) -> str:
        return self.engine.precision_name

    def draw(self, *orders: Order) -> Timed:
        """Draw ``orders``, which agree in all but prompt and seed, in one batch."""
        return self._draw(batch_of({str(uuid.uuid4()): order.request for order in orders}))

    def drain(self, orders: Sequence[Order], max_batch: int = MAX_BATCH) -> float:
        """Seconds until all ``orders``, which wait at once, are drawn in the batches of the bot's queue."""
        none = len(orders) + 1
        queue = FairQueue(limit=none, limit_per_owner=none, max_rows=max_batch)
        started = time.perf_counter()
        for order in orders:
            queue.add(Entry(job_id=str(uuid.uuid4()), owner=order.owner, request=order.request))
        while entries := queue.take(frozenset(self.engine.resident)):
            self._draw(batch_of({entry.job_id: entry.request for entry in entries}))
        return time.perf_counter() - started

    def _draw(self, batch: Batch) -> Timed:
        started = time.perf_counter()
        drawn = self.engine.draw(batch, _unheard)
        return Timed(pixels=drawn.pixels, seconds=time.perf_counter() - started, load_s=drawn.load_s)


def _unheard(progress: Progress) -> None:
    """Nobody follows these drawings."""
