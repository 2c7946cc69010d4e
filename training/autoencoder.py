"""The variational autoencoder: 128×128 pixels to 16×16 latents and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from diffusers import AutoencoderKL
from torch import Tensor

from training import sheets
from training.colour import BACKGROUNDS, rotate_hue
from training.loop import Draw, Group, Loop, half
from training.pictures import SIDE, load
from training.recipe import Recipe, device
from training.work import Work

WITHOUT_NOISE = 200
"""Steps without sampling of the latents, so that the decoder learns before it has to be robust."""


def build(recipe: Recipe) -> AutoencoderKL:
    """An untrained autoencoder with eight pixels per latent."""
    depth = len(recipe.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=recipe.vae_channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=4,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )


def train(recipe: Recipe, work: Work) -> None:
    """Train on all pictures of all styles; writes ``work.vae``."""
    torch.manual_seed(recipe.seed)
    where = device()
    vae, rgba = build(recipe).to(where), load(work.pictures).rgba.to(where)
    loop = Loop("vae", recipe.vae, [Group(parameters=tuple(vae.parameters()))], work, seed=recipe.seed)

    def loss_of(draw: Draw) -> Tensor:
        x = batch(rgba, recipe.vae.batch, draw.generator)
        with half(where):
            posterior = vae.encode(x).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            spread = (0.5 * logvar).exp() if draw.step > WITHOUT_NOISE else 0.0
            y = vae.decode(mean + torch.randn_like(mean) * spread).sample
        return reconstruction(x, y.float()) + 1e-5 * divergence(mean, logvar)

    def show() -> None:
        x = batch(rgba, 16, torch.Generator().manual_seed(1))
        with torch.no_grad(), half(where):
            y = vae.decode(vae.encode(x).latent_dist.mean).sample.float()
        sheets.save(sheets.pixels(torch.cat([x, y]) / 2 + 0.5), work.sheet("vae"), columns=16)

    loop.run(loss_of, show)
    vae.save_pretrained(work.vae)


def batch(rgba: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random pictures on random backgrounds, some with rotated hues: (count, 3, SIDE, SIDE) in -1..1."""
    where = rgba.device
    chosen = rgba[torch.randint(len(rgba), (count,), generator=generator).to(where)].float().permute(0, 3, 1, 2) / 255
    rgb, alpha = chosen[:, :3], chosen[:, 3:]
    turned = (torch.rand(count, generator=generator) < 0.3).to(where)
    degrees = (torch.rand(count, generator=generator) * 360).to(where)
    rgb = torch.where(turned[:, None, None, None], rotate_hue(rgb, degrees), rgb)
    grounds = torch.tensor(list(BACKGROUNDS.values())).float() / 255
    ground = grounds[torch.randint(len(grounds), (count,), generator=generator)]
    white = torch.rand(count, generator=generator) < 0.5
    ground = torch.where(white[:, None], torch.ones(3), ground).to(where)
    return (rgb * alpha + ground[:, :, None, None] * (1 - alpha)) * 2 - 1


def reconstruction(x: Tensor, y: Tensor) -> Tensor:
    """Absolute and squared error, those of flat areas, gradients at three scales: sharp without a discriminator."""
    edges = torch.zeros((), device=x.device)
    difference = x - y
    for _ in range(3):
        across, down = difference.diff(dim=-1), difference.diff(dim=-2)
        edges = edges + across.abs().mean() + down.abs().mean()
        difference = F.avg_pool2d(difference, 2)
    error = x - y
    flat = F.avg_pool2d(error, 8)
    return error.abs().mean() + 0.7 * error.square().mean() + 3 * flat.square().mean() + 0.7 * edges


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, var) ‖ N(0, 1)), averaged over elements."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
