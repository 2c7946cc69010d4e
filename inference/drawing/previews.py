"""What a slow batch's pictures look like between two steps: decoded small, by a tiny autoencoder. Never in the way.

Whatever goes wrong here costs the previews alone: it is logged, and the drawing goes on without them.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor

from inference.catalog import Catalog
from inference.contract import SIZE_MULTIPLE, Batch, Preview
from inference.drawing.batch import to_uint8
from inference.loading.checker import Checker
from inference.loading.damage import check_finite
from inference.loading.folder import NetworkFolder
from inference.loading.unsupported import UnsupportedError

log = logging.getLogger(__name__)

SIDE = 256
"""Pixels of a preview's longer side, at most."""
QUALITY = 80
"""Of WebP."""
WORTH_S = 2.0
"""What a batch must still take for a preview to be worth it."""
EVERY_S = 1.5
"""Between two previews of a batch, at least."""
SHARE = 0.1
"""Of a batch's time, at most, goes into its previews."""


class Rhythm:
    """When a batch of ``steps`` gets a preview: pure, told the time (in seconds) by whoever asks."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._began = 0.0
        self._spent = 0.0
        self._next = 0.0

    def is_due(self, step: int, now: float) -> bool:
        """Whether a preview is due after ``step``, by what the steps before took. 0 begins the count."""
        if step == 0:
            self._began = now
            return False
        step_s = (now - self._began - self._spent) / step
        return (self._steps - step) * step_s > WORTH_S and now >= self._next

    def made(self, began: float, now: float) -> None:
        """A preview was made in this time."""
        self._spent += now - began
        self._next = now + max(EVERY_S, (now - began) / SHARE)


class Sketches:
    """The previews of one batch. ``find`` brings the tiny autoencoder once it is needed; None: there is none."""

    def __init__(
        self,
        batch: Batch,
        checker: Checker | None,
        find: Callable[[], Any | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batch = batch
        self._checker = checker
        self._find = find
        self._clock = clock
        self._rhythm = Rhythm(batch.steps)
        self._given_up = False

    def after(self, step: int, estimate: Tensor | None) -> tuple[Preview, ...]:
        """One for each row, if they are due after ``step``; ``estimate``: latents (bucket, channels, h, w)."""
        began = self._clock()
        if not self._rhythm.is_due(step, began) or estimate is None or self._given_up:
            return ()
        try:
            made = self._make(estimate[: len(self._batch.rows)])
        except Exception:  # whatever it is, the picture does not need it
            log.warning("no previews of this batch", exc_info=True)
            made = ()
        self._given_up = not made
        self._rhythm.made(began, self._clock())
        return made

    def _make(self, latents: Tensor) -> tuple[Preview, ...]:
        vae = self._find()
        if vae is None:
            return ()
        pictures = torch.cat([_decode(vae, row) for row in torch.split(latents, 1)])
        verdicts = self._checker.judge(pictures) if self._checker else (None,) * len(pictures)
        return tuple(
            Preview(
                job_id=row.job_id,
                index=row.index,
                content=_webp(picture),
                explicit=verdict.explicit if verdict else None,
            )
            for row, picture, verdict in zip(self._batch.rows, pictures.cpu(), verdicts, strict=True)
        )


class Previews:
    """The tiny autoencoders of a catalogue on one device, loaded once one is needed. For one thread."""

    def __init__(self, *, catalog: Catalog, device: torch.device, precision: torch.dtype) -> None:
        self._catalog = catalog
        self._device = device
        self._precision = precision
        self._loaded: dict[Path, Any | None] = {}

    def of(self, batch: Batch, vae: Any, checker: Checker | None) -> Sketches:
        """The previews of a batch whose pictures ``vae`` decodes and ``checker`` looks at."""
        return Sketches(batch, checker, lambda: vae if isinstance(vae, AutoencoderTiny) else self._find(batch.model))

    def clear(self) -> None:
        """Give back the memory."""
        self._loaded.clear()

    def _find(self, name: str) -> Any | None:
        """The tiny autoencoder of the family of the model ``name``; None where it is not here."""
        source = self._catalog.preview(self._catalog[name])
        folder = source.locate() if source else None
        if source is None or folder is None:
            return None
        if folder not in self._loaded:
            self._loaded[folder] = None  # what cannot be loaded now is not tried for every batch
            self._loaded[folder] = load_tiny(folder, source.variant, device=self._device, precision=self._precision)
        return self._loaded[folder]


def load_tiny(folder: Path, variant: str | None, *, device: torch.device, precision: torch.dtype) -> torch.nn.Module:
    """The tiny autoencoder in ``folder``; raises one of ``damage.MALFORMED`` if it is none, or damaged."""
    network = NetworkFolder(path=folder, variant=variant).network("vae")
    if not isinstance(network, AutoencoderTiny):
        raise UnsupportedError("an autoencoder for previews has to be a tiny one")
    check_finite("vae", network)
    placed: torch.nn.Module = torch.nn.Module.to(network, device=device, dtype=precision)
    return placed


def _decode(vae: Any, latents: Tensor) -> Tensor:
    """Latents (1, channels, h, w) to a picture, (1, H, W, 3) in uint8, no longer than ``SIDE`` along any side.

    The latents are made smaller, not the picture: they are a picture too, and decoding costs by the pixel.
    """
    height, width = latents.shape[-2:]
    shrink = min(1.0, SIDE // SIZE_MULTIPLE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    able = latents.cpu() if latents.device.type == "mps" else latents  # which only shrinks to what divides the size
    small = torch.nn.functional.interpolate(able, size=size, mode="area") if shrink < 1.0 else latents
    scaled = (small / vae.config.scaling_factor).to(latents.device, vae.dtype)
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0]
    return to_uint8(decoded.float())


def _webp(picture: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.numpy()).save(buffer, format="WEBP", quality=QUALITY)
    return buffer.getvalue()
