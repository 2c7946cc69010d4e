"""Folds the whitening of the latents into the autoencoder, so that plain diffusers needs a scaling factor of 1."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor


@torch.no_grad()
def fold(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> AutoencoderKL:
    """Make ``vae`` encode to (z - mean) / std and decode from it, in place; both have shape (latent channels,).

    The encoder's last 1×1 convolution gives means and log variances: the means are whitened, the log variances are
    reduced by 2 log std. The decoder's first 1×1 convolution absorbs the inverse.
    """
    channels = len(mean)
    encode, decode = vae.quant_conv, vae.post_quant_conv
    encode.weight[:channels] /= std.view(-1, 1, 1, 1)
    encode.bias[:channels] = (encode.bias[:channels] - mean) / std
    encode.bias[channels:] -= 2 * std.log()
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight *= std.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)
    return vae
