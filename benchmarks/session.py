"""What the rows of one run share: the machine, the files, our engine, and at most one notebook in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.architectures import SD15, SDXL, Architecture, built_in
from benchmarks.catalogue import write_catalogue
from benchmarks.checkpoints import Checkpoints, write_checkpoints
from benchmarks.flops import flops_of_picture
from benchmarks.likeness import AT_LEAST_DB, psnr
from benchmarks.machine import ceiling
from benchmarks.memory import Peak
from benchmarks.notebook import Notebook, Reloading, baseline_precision
from benchmarks.ours import Order, Ours
from benchmarks.results import Arithmetic, Likeness, Measured
from benchmarks.timing import Deadline, Sample, interleave
from inference.catalog import Catalog
from inference.devices import PRECISIONS, name_of
from inference.memory.budgets import Budgets

Stalls: TypeAlias = Mapping[str, tuple[dict[str, Any], ...]]
"""What ``benchmarks.probe`` reported in each round, for our ``worker`` and for a ``thread``."""
CAPTURED_AFTER = 2
"""Drawings of a shape after which the next one is captured as a CUDA graph, if they were quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is drawn, and how much of it.

    ``main`` is drawn at ``side``; ``many`` is for the rows with several models, ``models`` of them; ``compiled`` for
    those that compile, with ``compiler``, a backend of ``torch.compile``, where graphs are counted. Per round, ours
    draws all ``waiting`` orders and the baseline ``theirs`` of them, one after the other; of the ``requests`` for
    several models, the baseline draws ``slice`` per round. ``merges`` is how many styles are merged anew; ``repeats``
    is how often the baseline draws each point of the growth rows.
    """

    main: Architecture
    side: int
    large: Architecture | None
    many: Architecture
    many_side: int
    compiled: Architecture
    compiled_side: int
    waiting: int
    theirs: int
    slice: int
    growth_models: tuple[int, ...]
    growth_sides: tuple[int, ...] = (256, 512, 768, 1024)
    growth_waiting: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    models: int = 8
    requests: int = 200
    rounds: int = 5
    merges: int = 3
    repeats: int = 3
    cache_bytes: int | None = None
    compiler: str = "inductor"


def workload_for(device: torch.device) -> Workload:
    """The sizes that fit the machine: a processor draws SD 1.5 at 256², and many models of the built-in one's size.

    That size is compiled on a GPU, too: the number of graphs does not depend on the size of a network, and SD 1.5 alone
    would take a minute.
    """
    small = built_in()
    if device.type == "cpu":
        return Workload(
            main=SD15,
            side=256,
            large=None,
            many=small,
            many_side=small.side,
            compiled=small,
            compiled_side=small.side,
            waiting=8,
            theirs=1,
            slice=40,
            growth_models=(1, 2, 4, 8, 16),
            cache_bytes=5 * 2**30,
        )
    return Workload(
        main=SD15,
        side=SD15.side,
        large=SDXL,
        many=SD15,
        many_side=SD15.side,
        compiled=small,
        compiled_side=small.side,
        waiting=64,
        theirs=4,
        slice=4,
        growth_models=(1, 2, 4, 8),
        growth_waiting=(1, 4, 16, 64),
        merges=1,
        repeats=1,
    )


class Session:
    """One run on one device. ``deadline`` is the current row's, ``so_far`` what it has measured if it is aborted.
    ``stalls`` are the rounds in which the event loop was watched, which two rows report.

    ``compiler``: what our engine compiles its networks with, None if it does not.
    """

    def __init__(self, device: torch.device, workload: Workload, folder: Path, *, compiler: str | None = None) -> None:
        self.compiler = compiler
        self.device = device
        self.workload = workload
        self.folder = folder
        self.deadline = Deadline(60.0)
        self.so_far: Measured | None = None
        self.stalls: Stalls | None = None
        self.peak = Peak(device)
        self._seeds = itertools.count()
        self._flops: dict[tuple[str, int, bool], float] = {}
        self._notebook: tuple[str, Notebook] | None = None
        self._ours: Ours | None = None

    def files(self, shape: Architecture, count: int = 1) -> Checkpoints:
        """``count`` checkpoints of ``shape``, written if they are not there."""
        return write_checkpoints(shape, self.folder, count=count, device=self.device)

    def catalog(self) -> Catalog:
        """The catalogue of all models that the rows may use; a row has its checkpoints written before it uses them."""
        workload = self.workload
        counts = {shape.name: 2 for shape in self._shapes}
        counts[workload.many.name] = max(workload.models, *workload.growth_models)
        folder = self.folder.resolve()
        groups = [
            Checkpoints(architecture=shape, folder=folder / shape.name, count=counts[shape.name])
            for shape in self._shapes
        ]
        return write_catalogue(self.catalog_path, groups)

    @property
    def catalog_path(self) -> Path:
        return self.folder / "models.toml"

    @property
    def _shapes(self) -> list[Architecture]:
        workload = self.workload
        shapes = (workload.main, workload.many, workload.compiled, workload.large)
        return list({shape.name: shape for shape in shapes if shape}.values())

    @property
    def ours(self) -> Ours:
        """The engine of this run, as the worker has one for all of its life."""
        if self._ours is None:
            budgets = Budgets(device=self.workload.cache_bytes)
            self._ours = Ours(self.catalog(), self.device, budgets=budgets, compiler=self.compiler)
        return self._ours

    def without_engine(self) -> None:
        """Free our engine's memory; the next row starts with an empty one."""
        self._ours = None
        self.without_notebook()

    def new_orders(self, model: str, side: int, count: int = 1) -> list[Order]:
        """``count`` orders with prompts and seeds that are new in this run: our engine caches embeddings, while a
        notebook encodes every time."""
        return [
            Order(model=model, prompt=f"a red apple, number {seed}", seed=seed, side=side)
            for seed in itertools.islice(self._seeds, count)
        ]

    def warm(self, *orders: Order) -> NDArray[np.uint8]:
        """Our pictures of ``orders``, drawn to warm up the model; the notebook is dropped while the model loads."""
        if orders[0].model not in self.ours.engine.resident:
            self.without_notebook()
        for _ in range(CAPTURED_AFTER if self.device.type == "cuda" else 0):
            self.ours.draw(*orders)
        return self.ours.draw(*orders).pixels

    def notebook(self, files: Checkpoints, name: str) -> Notebook:
        """The baseline A with the model ``name``."""
        if self._notebook is None or self._notebook[0] != name:
            self.without_notebook()
            self._notebook = name, Notebook.of(files, name, self.device)
        return self._notebook[1]

    def without_notebook(self) -> None:
        """Free the baseline's memory."""
        self._notebook = None
        Reloading({}, self.device).drop()

    def keep_stalls(self, stalls: Stalls) -> None:
        """Keep them for the other row that reports them, too, even if the present one is aborted."""
        self.stalls = stalls

    def side_by_side(
        self,
        theirs: Callable[[], float],
        ours: Callable[[], float],
        *,
        rounds: int | None = None,
        likeness: Likeness | None = None,
        notes: Mapping[str, Any] = MappingProxyType({}),
    ) -> Measured:
        """Measure both ways in turns, ``rounds`` times (the workload's by default). ``so_far`` is updated every round,
        so what the row has found out before, such as the ``likeness``, must be passed in here."""

        def keep(a: Sample, b: Sample) -> None:
            self.so_far = Measured(ours=b, theirs=a, likeness=likeness, notes=dict(notes))

        rounds = rounds or self.workload.rounds
        interleave(theirs, ours, rounds=rounds, deadline=self.deadline, peak=self.peak, on_round=keep)
        assert self.so_far is not None
        return self.so_far

    def likeness(self, ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> Likeness:
        """Whether the pictures are the same but for rounding."""
        precision = self.ours.precision
        both = f"ours {precision}, theirs {name_of(baseline_precision(self.device))}"
        return Likeness(psnr_db=round(psnr(ours, theirs), 1), needed_db=AT_LEAST_DB[precision], precisions=both)

    def with_arithmetic(
        self, measured: Measured, shape: Architecture, side: int, *, tiny_vae: bool = False
    ) -> Measured:
        """``measured``, whose ``ours`` are seconds per picture, with the rate of arithmetic and share of the peak."""
        assert measured.ours is not None
        counted = shape.name, side, tiny_vae
        if counted not in self._flops:
            self._flops[counted] = flops_of_picture(shape, side, tiny_vae=tiny_vae)
        tflops = self._flops[counted] / measured.ours.median / 1e12
        fastest = max(self.ceilings[self.ours.precision].values())
        return replace(measured, arithmetic=Arithmetic(tflops=tflops, ceiling_share=tflops / fastest))

    @cached_property
    def ceilings(self) -> dict[str, dict[str, float]]:
        """The device's peak rates, in TFLOP/s, in both sides' precisions."""
        names = {self.ours.precision, name_of(baseline_precision(self.device))}
        return {name: ceiling(self.device, PRECISIONS[name]) for name in sorted(names)}
