"""The denoising network's architecture, and where LoRAs attach to it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from training.recipe import Recipe

LORA_LAYERS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip
"""The layers that the LCM-LoRAs published with arXiv 2311.05556 change."""


def build(recipe: Recipe) -> UNet2DConditionModel:
    """An untrained UNet over latents of 16×16, without attention at its top level."""
    depth = len(recipe.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * depth),
        up_block_types=(*("CrossAttnUpBlock2D",) * depth, "UpBlock2D"),
        block_out_channels=recipe.unet_channels,
        layers_per_block=1,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def told_guidance(unet: UNet2DConditionModel, width: int) -> UNet2DConditionModel:
    """A copy of ``unet`` that also takes a guidance embedding of ``width`` (arXiv 2310.04378, section 4.2) and at first
    gives the same output as ``unet``."""
    config = dict(unet.config) | {"time_cond_proj_dim": width}
    student = UNet2DConditionModel.from_config(config)
    student.load_state_dict(unet.state_dict(), strict=False)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def add_lora(unet: UNet2DConditionModel, rank: int) -> tuple[nn.Parameter, ...]:
    """Freeze ``unet`` and add a LoRA with alpha = rank; returns the parameters left to train."""
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LORA_LAYERS))
    )
    return tuple(parameter for parameter in unet.parameters() if parameter.requires_grad)


def lora_of(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The LoRA of ``unet`` with peft's key names, in half precision."""
    found = get_peft_model_state_dict(unet)  # only one naming: diffusers skips attention if two are mixed
    return {key: value.to("cpu", torch.float16).contiguous() for key, value in found.items()}


def save_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the LoRA of ``unet`` with diffusers' key names."""
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=lora_of(unet))
