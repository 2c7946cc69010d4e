"""The engine: one batch in, pixels out. Finds the model and takes the batch through its stages; decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch

from inference.catalog import Catalog
from inference.contract import Adapter, Batch, Phase, Progress, Row
from inference.devices import (
    AUTO,
    choose_device,
    choose_precision,
    name_of,
    siblings,
    steady_threads,
)
from inference.drawing.drawn import Drawn
from inference.drawing.graphs import GraphedLoop, can_capture
from inference.drawing.models import key_of, model_store
from inference.drawing.previews import Previews
from inference.drawing.remedies import Remedies
from inference.drawing.safety import Safety
from inference.drawing.sampler import Loop, iterate
from inference.drawing.stages import OnProgress, Stages, Tools, out_of_memory
from inference.drawing.text import PromptCache, unread
from inference.errors import Failure, InferenceError, NumbersTooLarge
from inference.loading.checker import Checker
from inference.memory.budgets import Budgets
from inference.memory.heap import give_back, keep_freed
from inference.memory.model import LoadedModel
from inference.pictures.recipe import Recipe, library_versions


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
        if self._device.type == "cpu":
            torch.set_num_threads(threads or steady_threads())
            keep_freed()
        if self._device.type == "cuda" and torch.version.hip is None:
            torch.backends.cudnn.deterministic = True  # else cuDNN may pick an engine that sums in any order
            torch.backends.cuda.enable_cudnn_sdp(False)  # its attention first plans for every new shape
        self._models = model_store(
            catalog, device=self._device, precision=self._precision, budgets=budgets or Budgets(), compiler=compiler
        )
        loop: Loop = GraphedLoop(self._device) if can_capture(self._device) else iterate
        sketched = Previews(catalog=catalog, device=self._device, precision=self._precision) if previews else None
        self._tools = Tools(
            device=self._device,
            prompts=PromptCache(),
            loop=loop,
            previews=sketched,
            remedies=Remedies(self._device, models=self._models, loop=loop, safety=self._safety, previews=sketched),
            compiled=None if compiler is None else WeakKeyDictionary(),
        )
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

    def rest(self) -> None:
        """Give the operating system the memory back that only drawing needs; worth it if nothing is to be drawn."""
        if self._device.type == "cpu":
            give_back()

    def prefetch(self, model: str, adapters: tuple[Adapter, ...]) -> None:
        """Start loading a model in the background; returns at once. Errors are raised when the model draws."""
        self._models.prefetch((model, adapters))

    def draw(self, batch: Batch, on_progress: OnProgress) -> Drawn:
        """Draw every row of ``batch``.

        Prompts that are longer than the model reads at once are drawn apart from shorter ones (recipes say so).

        When memory runs out, graphs are dropped; then the batch is halved, down to single pictures (their recipes say
        so); then other models are evicted, and the text encoders make room for the denoiser. Decoding is done picture
        by picture, so there nothing is halved or sampled again: graphs are dropped; then other models are evicted, and
        the denoiser makes room as well; then the pictures are decoded in tiles.

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
        drawn = self._tools.remedies.attempt(draw, partial(self._tools.remedies.start_over, batch))
        if drawn is None:
            raise InferenceError(out_of_memory(batch))
        return drawn

    def _draw(self, batch: Batch, on_progress: OnProgress) -> Drawn:
        started = time.perf_counter()
        with (
            self._models.use(key_of(batch), _parts_of(on_progress)) as model,
            self._checker(batch, on_progress) as checker,
        ):
            stages = Stages(self._tools, model, checker, batch, on_progress)
            loaded = time.perf_counter()
            alike = stages.read()
            read = time.perf_counter()
            stages.bring()
            brought = time.perf_counter()
            sampled = stages.sample(alike)
            pictures, finite = stages.decode(sampled.latents)
            verdicts = stages.judge(pictures)
            pixels = pictures.cpu().numpy()
            load_s = loaded - started + brought - read + stages.compile_s
            too_large = NumbersTooLarge(model=batch.model, precision=self.precision_name)
            return Drawn(
                pixels=pixels,
                recipes=tuple(map(partial(self._recipe, model), sampled.parts, batch.rows)),
                verdicts=verdicts,
                unread=tuple(unread(model, self._tools.prompts, row) for row in batch.rows),
                faults=tuple(None if is_finite else too_large for is_finite in finite.tolist()),
                load_s=load_s,
                draw_s=time.perf_counter() - started - load_s,
            )

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


def _parts_of(on_progress: OnProgress) -> Callable[[int], None]:
    return lambda parts: on_progress(Progress(phase=Phase.LOADING, step=parts))
