"""The engine: one batch in, pixels out. Resolves the model, embeds the prompts, samples, decodes; decides nothing."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inference.batching import halves, part_of
from inference.catalog import Catalog
from inference.contract import Adapter, Batch, Phase, Progress, Row
from inference.devices import (
    AUTO,
    choose_device,
    choose_precision,
    is_out_of_memory,
    name_of,
    siblings,
    steady_threads,
)
from inference.drawing.batch import by_length, decode, draw_latents
from inference.drawing.drawn import Drawn, joined, ordered
from inference.drawing.graphs import GraphedLoop, can_capture
from inference.drawing.models import ModelKey, model_store
from inference.drawing.previews import Previews
from inference.drawing.safety import Safety
from inference.drawing.sampler import Loop, OnStep, iterate
from inference.drawing.text import PromptCache, unread
from inference.errors import Failure, InferenceError, NumbersTooLarge, OutOfMemory
from inference.loading.checker import Checker
from inference.memory.budgets import Budgets
from inference.memory.model import LoadedModel
from inference.pictures.recipe import Recipe, library_versions

OnProgress = Callable[[Progress], None]
T = TypeVar("T")


class Engine:
    """Draws on one device, in one thread, with the models of a catalogue.

    ``device`` and ``precision`` are names or ``auto`` (see ``inference.devices``); ``budgets`` limit the models that
    stay resident. ``threads``: how many compute on a CPU, None chooses (see ``steady_threads``). Without
    ``safety_check``, pictures are not checked for explicit content; with it, a model that is not harmless draws only if
    its checker can be loaded. With ``previews``, the progress of slow batches includes previews of their pictures.
    ``compiler`` is a backend of ``torch.compile``, such as ``inductor``; the first batch of a shape may then take
    minutes. A batch that fails or is stopped leaves the engine as it was.

    Raises:
        InferenceError: with DeviceUnknown or PrecisionUnknown.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        device: str = AUTO,
        precision: str = AUTO,
        budgets: Budgets | None = None,
        threads: int | None = None,
        safety_check: bool = True,
        previews: bool = False,
        compiler: str | None = None,
    ) -> None:
        self._catalog = catalog
        self._device = choose_device(device)
        self._precision = choose_precision(self._device, precision)
        self._safety = Safety(catalog=catalog, device=self._device, precision=self._precision) if safety_check else None
        self._previews = Previews(catalog=catalog, device=self._device, precision=self._precision) if previews else None
        self._prompts = PromptCache()
        if self._device.type == "cpu":
            torch.set_num_threads(threads or steady_threads())
        if self._device.type == "cuda" and torch.version.hip is None:
            torch.backends.cudnn.deterministic = True  # else cuDNN may pick an engine that sums in any order
        self._models = model_store(
            catalog, device=self._device, precision=self._precision, budgets=budgets or Budgets(), compiler=compiler
        )
        self._loop: Loop = GraphedLoop(self._device) if can_capture(self._device) else iterate
        self._compiles = compiler is not None
        self._compiled: WeakKeyDictionary[Any, set[tuple[int, ...]]] = WeakKeyDictionary()
        self._versions = library_versions()

    @property
    def device_name(self) -> str:
        """torch's name for it, such as ``cuda:0`` or ``cpu``."""
        return str(self._device)

    @property
    def sibling_names(self) -> tuple[str, ...]:
        """The other devices of the same kind."""
        return siblings(self._device)

    @property
    def precision_name(self) -> str:
        """torch's name for it, such as ``bfloat16``."""
        return name_of(self._precision)

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory, most recently used last."""
        return tuple(dict.fromkeys(name for name, _ in self._models.resident))

    def safety_faults(self) -> tuple[Failure, ...]:
        """What is wrong with the checkers that models on this machine need; loads them to find out."""
        return self._safety.faults() if self._safety else ()

    def require_device(self) -> None:
        """Raise the device's error if it is dead: after some errors, CUDA never computes again in the same process."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def prefetch(self, model: str, adapters: tuple[Adapter, ...]) -> None:
        """Start loading a model in the background; returns at once. Errors are raised when the model draws."""
        self._models.prefetch((model, adapters))

    def draw(self, batch: Batch, on_progress: OnProgress) -> Drawn:
        """Draw every row of ``batch``.

        Prompts that are longer than the model reads at once are drawn apart from shorter ones (recipes say so).

        When memory runs out, graphs are dropped; then the batch is halved, down to single pictures (their recipes say
        so); then other models are evicted. Decoding is done picture by picture, so there nothing is halved or sampled
        again: graphs are dropped; then other models are evicted; then the pictures are decoded in tiles.

        ``on_progress`` is called now and then while a model loads, at every step, and before decoding every picture;
        whatever it raises there propagates, and nothing of the batch remains.

        Raises:
            InferenceError: with UnknownModel, UnknownAdapter, WeightsMissing, WeightsUnreadable, CheckerMissing,
                CheckerUnusable or OutOfMemory. Faults of single pictures are in ``Drawn.faults``.
        """
        if not 1 <= len(batch.rows) <= batch.bucket:
            raise ValueError(f"{len(batch.rows)} rows do not fit a bucket of {batch.bucket}")
        if (guided := sum(row.guided for row in batch.rows)) > batch.guided_bucket:
            raise ValueError(f"{guided} guided rows do not fit a guided bucket of {batch.guided_bucket}")
        draw = partial(self._draw, batch, on_progress)
        drawn = self._unless_short(draw)
        if drawn is None and self._give_back_graphs():
            drawn = self._unless_short(draw)
        if drawn is None and batch.bucket > 1:
            parts = [self.draw(half, on_progress) for half in halves(batch)]
            return joined(parts)
        if drawn is None:
            self._make_room(batch)
            drawn = self._unless_short(draw)
        if drawn is None:
            raise InferenceError(_out_of_memory(batch))
        return drawn

    def _unless_short(self, work: Callable[[], T]) -> T | None:
        """The result of ``work``; None if memory runs out."""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the exception would keep the frames of what failed, and so its tensors, alive.
        self._sweep()
        return None

    def _draw(self, batch: Batch, on_progress: OnProgress) -> Drawn:
        started = time.perf_counter()
        with (
            self._models.use(_key(batch), _parts_of(on_progress)) as model,
            self._checker(batch, on_progress) as checker,
        ):
            loaded = time.perf_counter()
            alike = by_length(model, self._prompts, batch.rows)
            read_s = time.perf_counter() - loaded
            parts = [batch] if len(alike) == 1 else [part_of(batch, places) for places in alike]
            drawn = [self._draw_even(model, checker, part, on_progress) for part in parts]
            whole = drawn[0] if len(drawn) == 1 else ordered(joined(drawn), alike)
            return replace(whole, load_s=whole.load_s + loaded - started, draw_s=whole.draw_s + read_s)

    def _draw_even(self, model: LoadedModel, checker: Checker | None, batch: Batch, on_progress: OnProgress) -> Drawn:
        started = time.perf_counter()
        self._compile_for(model, batch, on_progress)
        loaded = time.perf_counter()
        on_step = self._steps(batch, model, checker, on_progress)
        latents = draw_latents(model, self._prompts, batch, on_step, self._loop)
        left_unread = tuple(unread(model, self._prompts, row) for row in batch.rows)
        pictures, finite = self._decoded(model, batch, latents[: len(batch.rows)], self._pictures(on_progress))
        verdicts = checker.judge(pictures) if checker else (None,) * len(batch.rows)
        pixels = pictures.cpu().numpy()
        too_large = NumbersTooLarge(model=batch.model, precision=self.precision_name)
        return Drawn(
            pixels=pixels,
            recipes=tuple(self._recipe(model, batch, row) for row in batch.rows),
            verdicts=verdicts,
            unread=left_unread,
            faults=tuple(None if is_finite else too_large for is_finite in finite.tolist()),
            load_s=loaded - started,
            draw_s=time.perf_counter() - loaded,
        )

    def _decoded(
        self, model: LoadedModel, batch: Batch, latents: Tensor, on_picture: Callable[[int], None] = lambda done: None
    ) -> tuple[Tensor, Tensor]:
        """What ``decode`` returns, by whatever means there is memory for."""
        whole = partial(decode, model, latents, on_picture)
        decoded = self._unless_short(whole)
        if decoded is None and self._give_back_graphs():
            decoded = self._unless_short(whole)
        if decoded is None:
            self._make_room(batch)
            decoded = self._unless_short(whole) or self._unless_short(partial(whole, tiled=True))
        if decoded is None:
            raise InferenceError(_out_of_memory(batch))
        return decoded

    def _compile_for(self, model: LoadedModel, batch: Batch, on_progress: OnProgress) -> None:
        """Compile when a live network sees its first batch of a shape; counts as loading."""
        if not self._compiles:
            return
        chunks = self._prompts.chunks(model, batch.rows[0])
        shape = (batch.bucket, batch.guided_bucket, batch.width, batch.height, chunks)
        known = [self._compiled.setdefault(network, set()) for network in (model.unet, model.vae)]
        if not all(shape in shapes for shapes in known):
            on_progress(Progress(phase=Phase.LOADING))
            once = draw_latents(model, self._prompts, replace(batch, steps=1), lambda step, estimate: None)
            self._decoded(model, batch, once[:1])
            for shapes in known:
                shapes.add(shape)

    def _steps(self, batch: Batch, model: LoadedModel, checker: Checker | None, on_progress: OnProgress) -> OnStep:
        sketches = self._previews.of(batch, model.vae, checker) if self._previews else None

        def on_step(step: int, estimate: Tensor | None) -> None:
            self._catch_up()
            made = sketches.after(step, estimate) if sketches else ()
            on_progress(Progress(phase=Phase.DRAWING, step=step, steps=batch.steps, previews=made))

        return on_step

    def _pictures(self, on_progress: OnProgress) -> Callable[[int], None]:
        def on_picture(done: int) -> None:
            self._catch_up()
            on_progress(Progress(phase=Phase.DECODING, step=done))

        return on_picture

    def _catch_up(self) -> None:
        """On devices that queue any number of steps at once, wait until what was queued is done: otherwise all steps
        would be reported, and could no longer be stopped, before the first one is done."""
        if self._device.type in {"mps", "xpu"}:
            torch.accelerator.synchronize(self._device)

    @contextmanager
    def _checker(self, batch: Batch, on_progress: OnProgress) -> Iterator[Checker | None]:
        if self._safety is None:
            yield None
            return
        loading = Progress(phase=Phase.LOADING)
        with self._safety.checker(self._catalog[batch.model], on_part=lambda: on_progress(loading)) as checker:
            yield checker

    def _recipe(self, model: LoadedModel, batch: Batch, row: Row) -> Recipe:
        second_pass = row.guided and model.guidance_dim is None
        return Recipe(
            prompt=row.prompt,
            negative=row.negative,
            model=batch.model,
            weights=model.fingerprint,
            adapters=batch.adapters,
            seed=row.seed,
            variation=row.variation,
            steps=batch.steps,
            guidance=row.guidance,
            width=batch.width,
            height=batch.height,
            bucket=batch.bucket,
            guided_bucket=batch.guided_bucket if second_pass else 0,
            precision=self.precision_name,
            device=self._device.type,
            threads=torch.get_num_threads() if self._device.type == "cpu" else 0,
            versions=self._versions,
        )

    def _make_room(self, batch: Batch) -> None:
        """Free everything that ``batch`` does not need."""
        self._models.free(keep=_key(batch))
        self._prompts.clear()
        if self._safety is not None:
            self._safety.clear()
        if self._previews is not None:
            self._previews.clear()
        self._sweep()

    def _give_back_graphs(self) -> bool:
        """Free all graphs, whose memory serves nothing else; returns whether there were any."""
        if not isinstance(self._loop, GraphedLoop) or not len(self._loop):
            return False
        self._loop.clear()
        self._sweep()
        return True

    def _sweep(self) -> None:
        """Free what the failed batch held."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _key(batch: Batch) -> ModelKey:
    return batch.model, batch.adapters


def _out_of_memory(batch: Batch) -> OutOfMemory:
    return OutOfMemory(model=batch.model, width=batch.width, height=batch.height)


def _parts_of(on_progress: OnProgress) -> Callable[[int], None]:
    return lambda parts: on_progress(Progress(phase=Phase.LOADING, step=parts))
