"""Previews of a slow batch's pictures between two steps, decoded small by a tiny autoencoder. Never in the way.

Whatever goes wrong here costs only the previews: it is logged, and the drawing goes on without them.
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
from inference.memory.model import LoadedModel

log = logging.getLogger(__name__)

SIDE = 256
"""Maximum length of a preview's longer side, in pixels."""
QUALITY = 80
"""WebP quality."""
WORTH_S = 2.0
"""Seconds that a batch must still take for a preview to be worth it."""
EVERY_S = 1.5
"""Minimum seconds between two previews of a batch."""
SHARE = 0.1
"""Maximum fraction of a batch's time spent on its previews."""


class Rhythm:
    """Decides when a batch of ``steps`` gets a preview. Pure: the caller passes the time in seconds."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._began = 0.0
        self._spent = 0.0
        self._next = 0.0

    def is_due(self, step: int, now: float) -> bool:
        """Whether a preview is due after ``step``, judging by the time of the previous steps. 0 starts the clock."""
        if step == 0:
            self._began = now
            return False
        step_s = (now - self._began - self._spent) / step
        return (self._steps - step) * step_s > WORTH_S and now >= self._next

    def made(self, began: float, now: float) -> None:
        """Note that a preview was made between ``began`` and ``now``."""
        self._spent += now - began
        self._next = now + max(EVERY_S, (now - began) / SHARE)


class Sketches:
    """The previews of one batch. ``find`` returns the tiny autoencoder when it is needed; None if there is none."""

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
        """One preview per row if they are due after ``step``; ``estimate``: latents (bucket, channels, h, w)."""
        began = self._clock()
        if not self._rhythm.is_due(step, began) or estimate is None or self._given_up:
            return ()
        try:
            made = self._make(estimate[: len(self._batch.rows)])
        except Exception:  # whatever it is, the batch can do without previews
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
    """The tiny autoencoders of a catalogue on one device, loaded on first use. For one thread."""

    def __init__(self, *, catalog: Catalog, device: torch.device, precision: torch.dtype) -> None:
        self._catalog = catalog
        self._device = device
        self._precision = precision
        self._loaded: dict[Path, Any | None] = {}

    def of(self, batch: Batch, model: LoadedModel, checker: Checker | None) -> Sketches:
        """The previews of a batch that ``model`` draws and ``checker`` judges."""
        return Sketches(batch, checker, lambda: model.vae if model.has_tiny_vae else self._find(batch.model))

    def clear(self) -> None:
        """Free the memory."""
        self._loaded.clear()

    def _find(self, name: str) -> Any | None:
        """The tiny autoencoder for the family of the model ``name``; None if it is not on this machine."""
        source = self._catalog.preview(self._catalog[name])
        folder = source.locate() if source else None
        if source is None or folder is None:
            return None
        if folder not in self._loaded:
            self._loaded[folder] = None  # a failed load is not retried for every batch
            self._loaded[folder] = load_tiny(folder, source.variant, device=self._device, precision=self._precision)
        return self._loaded[folder]


def load_tiny(folder: Path, variant: str | None, *, device: torch.device, precision: torch.dtype) -> torch.nn.Module:
    """The tiny autoencoder in ``folder``; raises one of ``damage.MALFORMED`` if it is not one, or damaged."""
    network = NetworkFolder(path=folder, variant=variant).network("vae")
    if not isinstance(network, AutoencoderTiny):
        raise UnsupportedError("an autoencoder for previews has to be a tiny one")
    check_finite("vae", network)
    placed: torch.nn.Module = torch.nn.Module.to(network, device=device, dtype=precision)
    return placed


def _decode(vae: Any, latents: Tensor) -> Tensor:
    """Decode latents (1, channels, h, w) to a picture, (1, H, W, 3) in uint8, at most ``SIDE`` long on each side.

    The latents are shrunk instead of the picture: they resemble a picture, and decoding is paid per pixel.
    """
    height, width = latents.shape[-2:]
    shrink = min(1.0, SIDE // SIZE_MULTIPLE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    able = latents.cpu() if latents.device.type == "mps" else latents  # MPS only shrinks to divisors of the size
    small = torch.nn.functional.interpolate(able, size=size, mode="area") if shrink < 1.0 else latents
    scaled = (small / vae.config.scaling_factor).to(latents.device, vae.dtype)
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0]
    return to_uint8(decoded.float())


def _webp(picture: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.numpy()).save(buffer, format="WEBP", quality=QUALITY)
    return buffer.getvalue()
