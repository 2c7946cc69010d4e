"""Drawing a batch with a loaded model: prompts to conditions, noise to latents, latents to bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from inference.contract import Batch, Row
from inference.drawing.sampler import (
    Conditions,
    Guidance,
    Loop,
    NegativePass,
    OnStep,
    draw_noise,
    guidance_embedding,
    iterate,
    sample,
)
from inference.drawing.text import Embedding, PromptCache
from inference.memory.model import LoadedModel

T = TypeVar("T")
SMALLEST_TILE, LARGEST_TILE = 16, 64
"""Sides of a tile in latents. Smaller tiles see less of the picture, so colours drift; larger ones take more memory."""


@torch.inference_mode()
def draw_latents(
    model: LoadedModel, prompts: PromptCache, batch: Batch, on_step: OnStep, loop: Loop = iterate
) -> Tensor:
    """Latents of all rows, padding included: (bucket, channels, height / 8, width / 8) in float32 on the device.

    The prompts of all rows must have the same number of chunks (see ``by_length``).

    ``on_step`` is called with 0 before the first step, and after step i with i and an estimate of all rows' latents.
    """
    rows = padded(batch)
    shape = (model.latent_channels, batch.height // model.vae_factor, batch.width // model.vae_factor)
    variations = [row.variation for row in rows]
    noise = draw_noise([row.seed for row in rows], batch.steps, shape, variations)
    chunks = prompts.read(model, rows[0])
    conditions = _conditions(batch, [prompts.embed(model, row.prompt, chunks=chunks) for row in rows])
    guidance = _guidance(model, prompts, batch, rows, chunks, like=conditions.text)
    return sample(model.unet, model.schedule, noise.to(conditions.text.device), conditions, guidance, on_step, loop)


@torch.inference_mode()
def decode(
    model: LoadedModel,
    latents: Tensor,
    on_picture: Callable[[int], None] = lambda done: None,
    *,
    tiled: bool = False,
    wide: bool = False,
) -> tuple[Tensor, Tensor]:
    """Decode latents (B, channels, h, w) to pixels, (B, 8 h, 8 w, 3) in uint8; also returns whether each picture was
    finite before rounding, (B,). Both are on the device.

    ``on_picture`` is called before each picture with the number of those done, and may raise. ``tiled`` takes less
    memory but leaves faint seams. ``wide``: in float32, with a copy of the autoencoder, which may overflow in float16.

    Decodes one picture at a time: the VAE is compute-bound, so batching gains nothing, and nothing has to be padded.
    """
    vae = copy.deepcopy(model.vae).float() if wide else model.vae
    if tiled:
        side = tile_side(*latents.shape[-2:])
        vae.tile_latent_min_size, vae.tile_sample_min_size = side, side * model.vae_factor
        vae.enable_tiling()
    pictures, finite = [], []
    try:
        for done, row in enumerate(torch.split(latents, 1)):
            on_picture(done)
            picture = decode_float(vae, row)
            finite.append(picture.isfinite().all())
            pictures.append(to_uint8(picture))
    finally:
        if tiled:
            vae.disable_tiling()
    return torch.cat(pictures), torch.stack(finite)


def tile_side(height: int, width: int) -> int:
    """Side of a tile in latents: half of the picture's longer side, within bounds.

    The autoencoder's configuration does not help: it gives its training size or nothing. A multiple of four, so that
    the overlap, a quarter of a tile, is whole.
    """
    return min(LARGEST_TILE, max(SMALLEST_TILE, max(height, width) // 8 * 4))


def decode_float(vae: Any, latents: Tensor) -> Tensor:
    """Decode latents (B, channels, h, w) to pictures (B, 3, 8 h, 8 w) in float32, nominally from -1 to 1."""
    config, weight = vae.config, next(vae.parameters())  # its own ``dtype`` walks through all modules
    scaled = latents / config.scaling_factor
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        scaled = scaled * latents.new_tensor(std).reshape(1, -1, 1, 1) + latents.new_tensor(mean).reshape(1, -1, 1, 1)
    picture: Tensor = vae.decode(scaled.to(weight.dtype), return_dict=False)[0]
    return picture.float()


def to_uint8(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) from -1…1 to (B, H, W, 3) from 0 to 255, rounded to nearest like diffusers' image processor."""
    unit = (pictures * 0.5 + 0.5).clamp(0.0, 1.0)
    return (unit * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.inference_mode()
def by_length(model: LoadedModel, prompts: PromptCache, rows: Sequence[Row]) -> list[list[int]]:
    """Read the prompts, and group the rows: lists of indices of rows whose prompts have the same number of chunks.

    Shorter prompts are not padded to match their neighbours: their pictures would depend on them.
    """
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(prompts.read(model, row), []).append(place)
    return list(places.values())


def padded(batch: Batch) -> tuple[Row, ...]:
    """The rows, padded to the bucket with copies of the last one, whose pictures are discarded."""
    return tuple(filled_up(batch.rows, batch.bucket))


def filled_up(items: Sequence[T], size: int) -> list[T]:
    """``items``, padded to ``size`` with copies of the last one."""
    return [*items, *[items[-1]] * (size - len(items))]


def _conditions(batch: Batch, embeddings: list[Embedding]) -> Conditions:
    """The rows' embeddings; for SDXL also the size, as both original and target size, and crop offsets of 0.

    The sizes stay in float32: bf16 cannot hold 2,056.
    """
    text = torch.cat([embedding.tokens for embedding in embeddings])
    pooled = [embedding.pooled for embedding in embeddings if embedding.pooled is not None]
    if not pooled:
        return Conditions(text=text)
    size = [batch.height, batch.width]
    time_ids = torch.tensor([[*size, 0, 0, *size]] * len(embeddings), dtype=torch.float32, device=text.device)
    return Conditions(text=text, pooled=torch.cat(pooled), time_ids=time_ids)


def _guidance(
    model: LoadedModel, prompts: PromptCache, batch: Batch, rows: tuple[Row, ...], chunks: int, *, like: Tensor
) -> Guidance:
    """On the device and in the precision of ``like``."""
    if model.guidance_dim is not None:
        scales = [row.guidance for row in rows]
        return Guidance(embedding=guidance_embedding(scales, model.guidance_dim).to(like))
    guided = [index for index, row in enumerate(batch.rows) if row.guided]
    if not guided:
        return Guidance()
    places = filled_up(guided, batch.guided_bucket)
    scales = [rows[place].guidance for place in places]
    negatives = [prompts.embed_negative(model, rows[place].negative, chunks=chunks) for place in places]
    negative = NegativePass(
        conditions=_conditions(batch, negatives),
        scales=torch.tensor(scales, device=like.device).reshape(-1, 1, 1, 1),
        rows=torch.tensor(places, device=like.device),
        count=len(guided),
    )
    return Guidance(negative=negative)
