"""Whitened latents of the vocabulary: every emoji plain, on backgrounds and in colours, encoded once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training import loop
from training.captions import Variant
from training.colour import BACKGROUNDS, HUES, composite, recolour
from training.loop import half
from training.pictures import Pictures, load
from training.recipe import Recipe, device
from training.vocabulary import vocabulary
from training.work import Work

COLOURED_ON_WHITE = 3
"""How many of an emoji's coloured forms stay on white; the others also get a background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """``z`` (N, C, 16, 16) is whitened, in half precision; ``variants`` is what each shows; ``vocabulary`` has indices
    into the pictures; ``mean`` and ``std`` (C,) undo the whitening."""

    z: Tensor
    variants: tuple[Variant, ...]
    vocabulary: tuple[int, ...]
    mean: Tensor
    std: Tensor

    @property
    def plain(self) -> Tensor:
        """Indices of the plain forms in ``z``."""
        return torch.tensor([i for i, variant in enumerate(self.variants) if variant.plain])

    @classmethod
    def read(cls, work: Work) -> Latents:
        state = torch.load(work.latents, weights_only=True)
        return cls(
            z=state["z"],
            variants=tuple(Variant(*parts) for parts in state["meta"]),
            vocabulary=tuple(state["vocab"]),
            mean=state["mean"],
            std=state["std"],
        )

    def write(self, work: Work) -> None:
        loop.save(
            {
                "z": self.z,
                "meta": [astuple(variant) for variant in self.variants],
                "vocab": list(self.vocabulary),
                "mean": self.mean,
                "std": self.std,
            },
            work.latents,
        )


def encode(recipe: Recipe, work: Work) -> Latents:
    """Encode all variants and write ``work.latents``."""
    pictures = load(work.pictures)
    chosen = vocabulary(pictures.rows, everything=recipe.everything)
    rng = random.Random(recipe.seed)
    shown = [
        (variant, picture_of(pictures, chosen[variant.entry], variant))
        for entry in range(len(chosen))
        for variant in variants(entry, recipe, rng)
    ]
    z = encoded(work, [picture for _, picture in shown])
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    latents = Latents(
        z=((z - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)).half(),
        variants=tuple(variant for variant, _ in shown),
        vocabulary=tuple(chosen),
        mean=mean,
        std=std,
    )
    latents.write(work)
    return latents


def variants(entry: int, recipe: Recipe, rng: random.Random) -> Iterator[Variant]:
    """The forms of an emoji to train on; held-out ones never occur."""
    yield Variant(entry)
    grounds = [Variant(entry, None, name) for name in BACKGROUNDS if name != "white"]
    grounds = [variant for variant in grounds if not variant.held_out()]
    rng.shuffle(grounds)
    yield from grounds[: recipe.backgrounds]
    colours = [name for name in HUES if not Variant(entry, name).held_out()]
    rng.shuffle(colours)
    for place, colour in enumerate(colours[: recipe.colours]):
        fitting = [variant.background for variant in grounds if variant.background != colour]
        ground = rng.choice(fitting) if fitting and place >= COLOURED_ON_WHITE else None
        yield Variant(entry, colour, ground)


def picture_of(pictures: Pictures, index: int, variant: Variant) -> Tensor:
    """``variant`` made from picture ``index``: (3, SIDE, SIDE) in 0..1."""
    rgb, alpha = pictures.parts(index)
    if variant.colour:
        rgb = recolour(rgb, alpha, variant.colour)
    return composite(rgb, alpha, variant.background or "white")


@torch.no_grad()
def encoded(work: Work, shown: list[Tensor], count: int = 64) -> Tensor:
    """Latent means (N, C, 16, 16), float32, not whitened, of pictures in 0..1."""
    where = device()
    vae = AutoencoderKL.from_pretrained(work.vae).to(where)
    means = []
    for start in range(0, len(shown), count):
        x = torch.stack(shown[start : start + count]).to(where) * 2 - 1
        with half(where):
            means.append(vae.encode(x).latent_dist.mean.float().cpu())
    return torch.cat(means)
