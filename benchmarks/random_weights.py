"""Random weights that keep a network's signals at unit scale, so that its pictures are neither overflow nor grey."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.architectures import LORA_TARGETS

BIAS = 0.02
EMBEDDING = 0.02
LORA_SHARE = 0.15
"""The size of a LoRA's change relative to the weight that it changes."""
RESIDUAL = 0.3
"""Gain of the layers that end a residual branch, so that the sum does not grow with the depth."""
_ENDS = ("conv2", "to_out.0", "ff.net.2", "out_proj", "fc2", "proj_out", "linear_2")


@torch.no_grad()
def fill(network: nn.Module, seed: int) -> None:
    """Draw every weight of ``network`` anew, on the device that it is on."""
    generator = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            gain = RESIDUAL if name.endswith(_ENDS) else 1.0
            layer.weight.normal_(0.0, gain * layer.weight[0].numel() ** -0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.normal_(0.0, BIAS, generator=generator)
        elif isinstance(layer, nn.Embedding):
            layer.weight.normal_(0.0, EMBEDDING, generator=generator)


@torch.no_grad()
def level_unet(unet: Any) -> None:
    """Scale the last layer so that the prediction has unit scale."""
    device = unet.device
    noise = _noise((2, unet.config.in_channels, 16, 16), device)
    context = _noise((2, 8, unet.config.cross_attention_dim), device)
    added = None
    if unet.config.addition_embed_type:
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        added = {"text_embeds": _noise((2, pooled), device), "time_ids": torch.full((2, 6), 512.0, device=device)}
    predicted = unet(noise, 500, context, added_cond_kwargs=added, return_dict=False)[0]
    unet.conv_out.weight /= predicted.std()


@torch.no_grad()
def level_vae(vae: Any, *, scale: float) -> None:
    """Scale the last layer so that pictures lie mostly within -1 to 1; latents are multiplied by ``scale`` before."""
    latents = _noise((1, vae.config.latent_channels, 16, 16), vae.device) * scale
    picture = vae.decode(latents, return_dict=False)[0]
    last = _last_convolution(vae.decoder)
    last.weight *= 0.4 / picture.std()
    assert last.bias is not None
    shifted = vae.decode(latents, return_dict=False)[0].mean()
    last.bias -= shifted / (2.0 if type(vae).__name__ == "AutoencoderTiny" else 1.0)


@torch.no_grad()
def lora_of(unet: nn.Module, rank: int, seed: int) -> dict[str, torch.Tensor]:
    """A LoRA for the layers of ``LORA_TARGETS``, with diffusers' names, in fp16."""
    tensors, device = {}, next(unet.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.endswith(LORA_TARGETS):
            weight = layer.weight
            inputs = weight[0].numel()
            down = torch.randn(rank, *weight.shape[1:], generator=generator, device=device) * inputs**-0.5
            up = torch.randn(weight.shape[0], rank, *(1 for _ in weight.shape[2:]), generator=generator, device=device)
            tensors[f"unet.{name}.lora_A.weight"] = down.half().cpu()
            tensors[f"unet.{name}.lora_B.weight"] = (up * LORA_SHARE * rank**-0.5).half().cpu()
    return tensors


def _last_convolution(decoder: nn.Module) -> nn.Conv2d:
    return [layer for layer in decoder.modules() if isinstance(layer, nn.Conv2d)][-1]


def _noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0)).to(device)
