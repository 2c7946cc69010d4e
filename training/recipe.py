"""How large the networks are and how long each stage trains: one recipe for a CPU, one for a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

TIMESTEPS = 1000
STYLES = ("flat", "ink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One optimisation: ``steps`` updates of ``batch`` pictures, cosine decay from ``rate`` after a linear warm-up.

    A machine that cannot do them in ``limit_s`` seconds, sample sheets in between included, does fewer, along the same
    decay. Where the limit ends a stage, the result depends on the machine's speed. Otherwise it depends on the seed,
    and on the kernels: those of CUDA are chosen anew in every run, by their speed, and round differently.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    average: float = 0.998
    limit_s: float = math.inf

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.limit_s <= 0:
            raise ValueError(f"{self.steps} steps of {self.batch} pictures in {self.limit_s} s")

    def progress(self, steps: int, seconds: float) -> float:
        """How much of the stage is done after so many steps and seconds; 1 at its end."""
        return min(1.0, max(steps / self.steps, seconds / self.limit_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Sizes and durations.

    ``everything``: train on all emoji instead of only the well-known ones. ``backgrounds``, ``colours``: how many an
    emoji is shown with. ``native_scales``: the range of guidance scales that the native LCM learns; ``lora_scale``: the
    one that is baked into the LCM-LoRA. ``ways``: batches of teacher trajectories that both are distilled from; fewer
    if computing them takes longer than ``ways_limit_s`` seconds.
    """

    name: str
    seed: int = 0
    everything: bool = False
    latent_channels: int = 8
    vae_channels: tuple[int, ...]
    unet_channels: tuple[int, ...]
    text_layers: int = 3
    text_width: int = 192
    guidance_width: int = 64
    backgrounds: int = 6
    colours: int = 5
    native_scales: tuple[float, float] = (1.0, 5.0)
    lora_scale: float = 3.0
    lora_rank: int = 14
    style_rank: int = 5
    ways: int = 56
    ways_limit_s: float = math.inf
    vae: Stage
    text: Stage
    base: Stage
    native: Stage
    lora: Stage
    style: Stage

    def ways_progress(self, batches: int, seconds: float) -> float:
        """How much of the teacher's trajectories is done; 1 at their end, but not before two batches."""
        return min(1.0, max(batches / self.ways, seconds / self.ways_limit_s if batches >= 2 else 0.0))


CPU = Recipe(
    name="cpu",
    vae_channels=(16, 32, 64, 96),
    unet_channels=(80, 128, 160),
    vae=Stage(steps=14_000, batch=4, rate=1e-3, average=0.999),
    text=Stage(steps=1500, batch=128, rate=1e-3, warmup=50),
    base=Stage(steps=9000, batch=32, rate=1.2e-3, warmup=200, average=0.9985),
    native=Stage(steps=500, batch=24, rate=2e-4, warmup=30, average=0.97),
    lora=Stage(steps=500, batch=24, rate=1e-3, warmup=30, average=0.97),
    style=Stage(steps=600, batch=32, rate=2e-3, warmup=30, average=0.97),
)
"""About two hours on two cores with AVX512-BF16."""

GPU = Recipe(
    name="gpu",
    everything=True,
    vae_channels=(16, 32, 64, 96),
    unet_channels=(80, 128, 160),
    backgrounds=8,
    colours=6,
    ways_limit_s=45,
    vae=Stage(steps=8000, batch=32, rate=1e-3, limit_s=85),
    text=Stage(steps=2000, batch=256, rate=1e-3, warmup=50, limit_s=25),
    base=Stage(steps=12_000, batch=384, rate=1.5e-3, warmup=300, average=0.9995, limit_s=160),
    native=Stage(steps=1500, batch=192, rate=3e-4, warmup=50, average=0.995, limit_s=40),
    lora=Stage(steps=1500, batch=192, rate=1e-3, warmup=50, average=0.995, limit_s=40),
    style=Stage(steps=1000, batch=64, rate=2e-3, warmup=30, average=0.99, limit_s=30),
)
"""Ten minutes at most: the limits, which are those of training alone, leave more than two for what has none: fetching
the pictures, encoding, the last sample sheet of each stage, export and evaluation.

The bottleneck is the thread that launches kernels: a step of the base takes it an estimated 40 ms whatever the batch,
and 384 pictures there are 1 TFLOP, which an H200 does in less. So batches are large in the base, which has the most to
see, and small in the autoencoder and the styles, which need steps. Nothing is compiled: for networks this small, that
would take longer than some stages. Steps are not captured as CUDA graphs either. How many of the steps an H200 does in
that time has not been measured. The networks are no larger than in the CPU recipe: two denoisers in half precision
leave no room for more under 48 MB.
"""

RECIPES = {recipe.name: recipe for recipe in (CPU, GPU)}


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
