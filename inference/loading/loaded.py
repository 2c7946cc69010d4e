"""The one form that every loaded model has, whatever files it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from inference.sampler import Schedule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextStage:
    """A tokenizer with its text encoder (transformers' CLIP classes)."""

    tokenizer: Any
    encoder: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """Networks on their device, adapters merged, ready to draw.

    ``text``: one stage, or two in SDXL's shape. ``unet`` and ``vae``: diffusers' classes. ``guidance_dim``: the size of
    the guidance embedding of a native LCM, None for any other. ``zero_empty_negative``: SDXL's rule that an empty
    negative prompt is all zeros. ``fingerprint``: SHA-256 (hex) over every file and strength that the weights are from.
    """

    name: str
    text: tuple[TextStage, ...]
    unet: Any
    vae: Any
    schedule: Schedule
    guidance_dim: int | None
    zero_empty_negative: bool
    fingerprint: str

    @property
    def two_encoders(self) -> bool:
        """SDXL's shape: a pooled embedding and the size are conditions, too."""
        return len(self.text) == 2

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """All that takes memory."""
        return (*(stage.encoder for stage in self.text), self.unet, self.vae)

    @property
    def bytes(self) -> int:
        """Memory that the weights take, in bytes."""
        return sum(
            tensor.numel() * tensor.element_size()
            for network in self.networks
            for tensor in (*network.parameters(), *network.buffers())
        )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that the denoiser takes."""
        return int(self.unet.config.in_channels)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent along each side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))
