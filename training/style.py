"""Style LoRAs: the same emoji in flat colours, as their artists also drew them, and printed with one ink."""

from __future__ import annotations

import random

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from training import denoiser, samples
from training.base import velocity_loss
from training.captions import Variant
from training.colour import BACKGROUNDS, inked
from training.latents import Latents, encoded, picture_of
from training.loop import Draw, Group, Loop, half
from training.pictures import load
from training.recipe import TIMESTEPS, Recipe, device
from training.schedule import Schedule
from training.text import Captioner
from training.work import Work

DRAWN_AS = {"flat": "flat", "ink": "3d"}
"""Which pictures each style starts from."""


def train(style: str, recipe: Recipe, work: Work) -> None:
    """Train on the vocabulary in ``style``, each emoji on white and on one other background; writes
    ``work.style(style)``. The style needs no word in the prompt."""
    torch.manual_seed(recipe.seed)
    where, latents = device(), Latents.read(work)
    captioner, schedule = Captioner(work, latents), Schedule.scaled_linear(where)
    shown, z = _examples(style, recipe, work, latents)
    z = z.to(where)
    encoder = CLIPTextModel.from_pretrained(work.base / "text_encoder").to(where).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(work.base / "unet").to(where)
    learnt = denoiser.add_lora(unet, recipe.style_rank)
    name = f"style-{style}"
    loop = Loop(name, recipe.style, [Group(parameters=learnt)], work, seed=recipe.seed + 2)

    def loss_of(draw: Draw) -> Tensor:
        chosen = torch.randint(len(shown), (recipe.style.batch,), generator=draw.generator)
        t = torch.randint(TIMESTEPS, (recipe.style.batch,), generator=draw.generator).to(where)
        said = captioner.ids_of((shown[i] for i in chosen.tolist()), draw.step)
        words = encoder(said.to(where)).last_hidden_state
        with half(where):
            return velocity_loss(unet, schedule, z[chosen.to(where)], t, words)

    loop.run(loss_of, lambda: samples.style(name, unet, work))
    denoiser.save_lora(unet, work.style(style))


def _examples(style: str, recipe: Recipe, work: Work, latents: Latents) -> tuple[list[Variant], Tensor]:
    """The variants to show, and their whitened latents (N, C, 16, 16)."""
    pictures, rng = load(work.pictures), random.Random(recipe.seed)
    places = {picture.code: i for i, picture in enumerate(pictures.rows) if picture.style == DRAWN_AS[style]}
    grounds = [name for name in BACKGROUNDS if name != "white"]
    shown, drawn = [], []
    for entry, index in enumerate(latents.vocabulary):
        place = places.get(pictures.rows[index].code)
        if place is None:
            continue
        shown_on = [name for name in grounds if not Variant(entry, None, name).held_out()]
        for variant in (Variant(entry), Variant(entry, None, rng.choice(shown_on))):
            shown.append(variant)
            picture = picture_of(pictures, place, variant)
            drawn.append(inked(picture) if style == "ink" else picture)
    mean, std = (tensor.view(1, -1, 1, 1) for tensor in (latents.mean, latents.std))
    return shown, (encoded(work, drawn) - mean) / std
