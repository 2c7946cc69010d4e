"""Useful arithmetic: what a picture needs with the LoRA merged, counted on networks without weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import Architecture
from benchmarks.notebook import STEPS


def flops_of_picture(shape: Architecture, side: int, *, tiny_vae: bool = False) -> float:
    """Operations of one picture: the denoiser's steps and the decoding (2 for each multiply-add; no text encoders)."""
    with torch.device("meta"), torch.no_grad():
        return STEPS * _denoiser(shape, side) + _decoder(shape, side, tiny_vae)


def _denoiser(shape: Architecture, side: int) -> float:
    unet: Any = UNet2DConditionModel(**shape.unet)
    latents = torch.empty(1, unet.config.in_channels, side // 8, side // 8)
    context = torch.empty(1, shape.length, unet.config.cross_attention_dim)
    added = None
    if shape.two_encoders:
        pooled = shape.text[1]["projection_dim"]
        added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
    with FlopCounterMode(display=False) as counter:
        unet(latents, torch.empty(1), context, added_cond_kwargs=added, return_dict=False)
    return float(counter.get_total_flops())


def _decoder(shape: Architecture, side: int, tiny: bool) -> float:
    channels = shape.vae["latent_channels"]
    vae: Any = AutoencoderTiny(**shape.tiny_vae) if tiny else AutoencoderKL(**shape.vae)
    with FlopCounterMode(display=False) as counter:
        vae.decode(torch.empty(1, channels, side // 8, side // 8), return_dict=False)
    return float(counter.get_total_flops())
