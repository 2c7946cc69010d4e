"""The base model: a denoiser and its text encoder, trained as Stable Diffusion is."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from training import denoiser, samples
from training.latents import Latents
from training.loop import Draw, Group, Loop, half
from training.recipe import TIMESTEPS, Recipe, device
from training.schedule import Schedule
from training.text import Captioner
from training.work import Work

TEXT_SHARE = 0.1
"""The text encoder's learning rate, relative to the denoiser's."""
PLAIN_SHARE = 1 / 3
"""Share of every batch that shows emoji as they are: those are few among their variants."""


def train(recipe: Recipe, work: Work) -> None:
    """Train denoiser and text encoder on all variants; writes ``work.base``."""
    torch.manual_seed(recipe.seed)
    where, latents = device(), Latents.read(work)
    captioner, schedule = Captioner(work, latents), Schedule.scaled_linear(where)
    unet = denoiser.build(recipe).to(where)
    encoder = CLIPTextModel.from_pretrained(work.text).to(where)
    z, plain = latents.z.to(where), latents.plain
    groups = [
        Group(parameters=tuple(unet.parameters())),
        Group(parameters=tuple(encoder.parameters()), share=TEXT_SHARE),
    ]
    loop = Loop("base", recipe.base, groups, work, seed=recipe.seed)

    def loss_of(draw: Draw) -> Tensor:
        chosen = choose(len(z), plain, recipe.base.batch, draw.generator)
        t = torch.randint(TIMESTEPS, (len(chosen),), generator=draw.generator).to(where)
        words = captioner.ids(chosen, draw.step).to(where)
        with half(where):
            return velocity_loss(unet, schedule, z[chosen.to(where)].float(), t, encoder(words).last_hidden_state)

    def show() -> None:
        write(unet, encoder, work)
        samples.base(work)

    loop.run(loss_of, show)


def choose(count: int, plain: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Indices (batch,) to train on: any of ``count``, a third of them plain."""
    chosen = torch.randint(count, (batch,), generator=generator)
    few = int(batch * PLAIN_SHARE)
    chosen[:few] = plain[torch.randint(len(plain), (few,), generator=generator)]
    return chosen


def velocity_loss(network: UNet2DConditionModel, schedule: Schedule, z: Tensor, t: Tensor, words: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity at noised ``z`` (B, C, 16, 16)."""
    noise = torch.randn_like(z)
    predicted = network(schedule.noised(z, noise, t), t, words).sample
    return F.mse_loss(predicted.float(), schedule.velocity(z, noise, t))


def write(unet: UNet2DConditionModel, encoder: CLIPTextModel, work: Work) -> None:
    unet.save_pretrained(work.base / "unet")
    encoder.save_pretrained(work.base / "text_encoder")
