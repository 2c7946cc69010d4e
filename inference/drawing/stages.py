"""The stages of a batch with a loaded model, and what gives way for each where memory is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inference.batching import halves, part_of
from inference.contract import Batch, Phase, Progress
from inference.drawing.batch import by_length, decode, draw_latents
from inference.drawing.previews import Previews
from inference.drawing.remedies import Remedies
from inference.drawing.sampler import Loop, OnStep
from inference.drawing.text import PromptCache
from inference.errors import InferenceError, OutOfMemory
from inference.loading.checker import Checker, Verdict
from inference.memory.model import LoadedModel

OnProgress = Callable[[Progress], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an engine draws all batches with. ``compiled``: the shapes that live networks are compiled for; None where
    none are compiled."""

    device: torch.device
    prompts: PromptCache
    loop: Loop
    previews: Previews | None
    remedies: Remedies
    compiled: WeakKeyDictionary[Any, set[tuple[int, ...]]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """``latents``: (rows, channels, h, w); ``parts``: for each row, the part of the batch that it was sampled in."""

    latents: Tensor
    parts: tuple[Batch, ...]


class Stages:
    """One batch on its way from prompts to pictures: ``read``, ``bring``, ``sample``, ``decode`` and ``judge``.

    Each needs only some of the model's networks, and what a later one needs comes back by itself. The remedies of each
    are tried from the least to the most expensive. Until the latents are sampled, running out of memory raises
    ``MemoryError``, and starting over with an empty device may help; from then on it is an ``InferenceError``.
    """

    def __init__(
        self, tools: Tools, model: LoadedModel, checker: Checker | None, batch: Batch, on_progress: OnProgress
    ) -> None:
        self._tools = tools
        self._model = model
        self._checker = checker
        self._batch = batch
        self._on_progress = on_progress
        self._attempt = tools.remedies.attempt
        self._evict_others = partial(tools.remedies.evict_others, batch, model)
        self._put_away = partial(tools.remedies.put_away, model)
        self.compile_s = 0.0

    def read(self) -> list[list[int]]:
        """Embed the prompts; see ``by_length``."""
        alike = self._attempt(
            partial(by_length, self._model, self._tools.prompts, self._batch.rows),
            self._evict_others,
            partial(self._put_away, "unet", "vae"),
        )
        return _or_start_over(alike)

    def bring(self) -> None:
        """Put the denoiser's weights into its live network."""
        unet = self._attempt(lambda: self._model.unet, self._evict_others, partial(self._put_away, "vae"))
        _or_start_over(unet)

    def sample(self, alike: list[list[int]]) -> Sampled:
        """Sample the latents, rows of ``alike`` together; parts that do not fit are halved, down to single rows."""
        parts = [self._batch] if len(alike) == 1 else [part_of(self._batch, places) for places in alike]
        sampled = [
            (row, part) for whole in parts for part, rows in self._sampled(whole) for row in torch.split(rows, 1)
        ]
        by_place = dict(zip((place for places in alike for place in places), sampled, strict=True))
        in_order = [by_place[place] for place in sorted(by_place)]
        return Sampled(latents=torch.cat([row for row, _ in in_order]), parts=tuple(part for _, part in in_order))

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one picture after the other, so nothing has to be halved; see ``batch.decode``.

        Some autoencoders, such as those of many anime checkpoints, overflow in float16; then float32 is tried.
        """
        pictures, finite = self._decoded(latents, self._on_picture)
        if next(self._model.vae.parameters()).dtype is torch.float16 and not finite.all():
            self._mend(latents, pictures, finite)
        return pictures, finite

    def judge(self, pictures: Tensor) -> tuple[Verdict | None, ...]:
        """The checker's verdicts on pictures (rows, H, W, 3) in uint8; None without a checker."""
        if self._checker is None:
            return (None,) * len(pictures)
        return self._attempted(
            partial(self._checker.judge, pictures),
            self._evict_others,
            partial(self._put_away, "unet", "vae", lose=True),
        )

    def _sampled(self, part: Batch) -> Iterator[tuple[Batch, Tensor]]:
        """The parts that there was memory for, with the latents of their rows."""
        sample = partial(self._latents, part)
        if part.bucket > 1:
            latents = self._attempt(sample)
        else:
            latents = _or_start_over(self._attempt(sample, self._evict_others, partial(self._put_away, "vae")))
        if latents is not None:
            yield part, latents[: len(part.rows)]
            return
        for half in halves(part):
            yield from self._sampled(half)

    def _latents(self, part: Batch) -> Tensor:
        self._compile_for(part)
        return draw_latents(self._model, self._tools.prompts, part, self._on_step(part), self._tools.loop)

    def _decoded(self, latents: Tensor, on_picture: Callable[[int], None] = lambda done: None) -> tuple[Tensor, Tensor]:
        whole = partial(decode, self._model, latents, on_picture)
        decoded = self._attempt(whole, self._evict_others, partial(self._put_away, "unet"))
        return decoded or self._attempted(
            partial(whole, tiled=True), partial(self._put_away, *self._model.text_parts, "unet", lose=True)
        )

    @torch.inference_mode()
    def _mend(self, latents: Tensor, pictures: Tensor, finite: Tensor) -> None:
        """Replace the pictures that are not finite though their latents are, if there is memory for that."""
        spoilt = ~finite & latents.isfinite().flatten(1).all(1)
        wide = partial(decode, self._model, latents[spoilt], self._on_picture, wide=True)
        again = self._attempt(wide, self._evict_others, partial(self._put_away, "unet")) if spoilt.any() else None
        if again is not None:
            pictures[spoilt], finite[spoilt] = again

    def _compile_for(self, part: Batch) -> None:
        """Compile when a live network sees its first batch of a shape."""
        if self._tools.compiled is None:
            return
        started = time.perf_counter()
        chunks = self._tools.prompts.read(self._model, part.rows[0])
        shape = (part.bucket, part.guided_bucket, part.width, part.height, chunks)
        networks = (self._model.unet, self._model.vae)
        known = [self._tools.compiled.setdefault(network, set()) for network in networks]
        if not all(shape in shapes for shapes in known):
            self._on_progress(Progress(phase=Phase.LOADING))
            once = draw_latents(self._model, self._tools.prompts, replace(part, steps=1), lambda step, estimate: None)
            self._decoded(once[:1])
            for shapes in known:
                shapes.add(shape)
        self.compile_s += time.perf_counter() - started

    def _on_step(self, part: Batch) -> OnStep:
        previews, short = self._tools.previews, self._tools.remedies.were_needed_for(self._batch)
        sketches = previews.of(part, self._model, self._checker) if previews and not short else None

        def on_step(step: int, estimate: Tensor | None) -> None:
            self._catch_up()
            made = sketches.after(step, estimate) if sketches else ()
            self._on_progress(Progress(phase=Phase.DRAWING, step=step, steps=part.steps, previews=made))

        return on_step

    def _on_picture(self, done: int) -> None:
        self._catch_up()
        self._on_progress(Progress(phase=Phase.DECODING, step=done))

    def _catch_up(self) -> None:
        """On devices that queue any number of steps at once, wait until what was queued is done: otherwise all steps
        would be reported, and could no longer be stopped, before the first one is done."""
        if self._tools.device.type in {"mps", "xpu"}:
            torch.accelerator.synchronize(self._tools.device)

    def _attempted(self, work: Callable[[], T], *remedies: Callable[[], bool]) -> T:
        done = self._attempt(work, *remedies)
        if done is None:
            raise InferenceError(out_of_memory(self._batch))
        return done


def out_of_memory(batch: Batch) -> OutOfMemory:
    return OutOfMemory(model=batch.model, width=batch.width, height=batch.height)


def _or_start_over(done: T | None) -> T:
    if done is None:
        raise MemoryError
    return done
