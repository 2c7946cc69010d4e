"""The few-step sampler of Latent Consistency Models: from seeds and prompt embeddings to latents.

All coefficients are Python floats, computed before the loop: nothing inside it reads a value back from the device.
Latents and arithmetic are float32, whatever dtype the network computes in. Each picture's noise comes from its own
seeds, on the CPU, so it is the same on every device and in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from inference.contract import Variation
from inference.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The network's inputs besides latents and timestep, one row per picture.

    ``text``: (B, tokens, width). ``pooled``: (B, width) and ``time_ids``: (B, 6) for SDXL, else None.
    """

    text: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    @property
    def added(self) -> dict[str, Tensor] | None:
        """SDXL's conditions as diffusers' UNet takes them."""
        if self.pooled is None or self.time_ids is None:
            return None
        return {"text_embeds": self.pooled, "time_ids": self.time_ids}


OnStep: TypeAlias = Callable[[int, Tensor | None], None]
"""Called with the number of steps done and the current estimate of the pictures: the consistency function's output f,
latents without noise; None before the first step. An exception from it ends the drawing."""


class Denoiser(Protocol):
    """A conditional UNet as diffusers defines it."""

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        timestep_cond: Tensor | None,
        added_cond_kwargs: dict[str, Tensor] | None,
        return_dict: bool,
    ) -> Any: ...


def draw_noise(
    seeds: Sequence[int], steps: int, shape: tuple[int, int, int], variations: Sequence[Variation | None] | None = None
) -> Tensor:
    """Standard normal noise in float32 on the CPU, shape (steps, rows, channels, height, width).

    Each row has its own generator; its first draw is the initial latents, the others are added after each step but the
    last, in that order: as diffusers' pipelines draw them when given one generator per picture.

    A variation mixes all of them with those of its own seed, not just the initial one as AUTOMATIC1111 does: the noise
    added after the first steps drowns that out, and with four steps nobody would see the difference.
    """
    rows = []
    for seed, variation in zip(seeds, variations or [None] * len(seeds), strict=True):
        noise = _noise(seed, steps, shape)
        if variation is not None and variation.seed != seed:
            noise = _on_the_arc(noise, _noise(variation.seed, steps, shape), variation.strength)
        rows.append(noise)
    return torch.stack(rows, dim=1)


def _noise(seed: int, steps: int, shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(steps)])


def _on_the_arc(one: Tensor, other: Tensor, strength: float) -> Tensor:
    """Spherical interpolation of independent normal fields, from ``one`` at 0 to ``other`` at 1.

    The squares of the weights add up to 1, so the mix is standard normal for every strength. AUTOMATIC1111 measures the
    angle between the fields, which for n independent values is a right angle up to O(1 / sqrt(n)).
    """
    angle = strength * math.pi / 2
    return math.cos(angle) * one + math.sin(angle) * other


def guidance_embedding(guidance: Sequence[float], dim: int) -> Tensor:
    """Sinusoids of w = guidance - 1, shape (rows, dim), float32: sines, then cosines (arXiv 2310.04378, section 4.2; as
    ``get_guidance_scale_embedding`` of diffusers, after google-research/vdm)."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10_000.0)) / (half - 1)))
    angles = [torch.tensor(scale - 1.0) * 1_000.0 * frequencies for scale in guidance]  # in float32, as in training
    rows = torch.stack([torch.cat([torch.sin(angle), torch.cos(angle)]) for angle in angles])
    return torch.nn.functional.pad(rows, (0, dim % 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativePass:
    """The second pass of classifier-free guidance, over the guided rows only, padded to G rows.

    ``conditions``: of the negative prompts. ``scales``: (G, 1, 1, 1). ``rows``: (G,) in int64, which rows of the batch
    they belong to. From ``count`` on they are padding.
    """

    conditions: Conditions
    scales: Tensor
    rows: Tensor
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """How the rows are guided: one of the two ways of Latent Consistency Models.

    ``embedding``: (B, dim) for a native LCM. ``negative``: classifier-free guidance of some rows; the others come out
    exactly as without it. Neither: unguided.
    """

    embedding: Tensor | None = None
    negative: NegativePass | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopInputs:
    """Everything that the loop reads from the device. ``timesteps``: (steps,) in int64."""

    noise: Tensor
    timesteps: Tensor
    conditions: Conditions
    guidance: Guidance


Loop: TypeAlias = Callable[[Denoiser, Schedule, LoopInputs, OnStep], Tensor]
"""``iterate``, or another implementation of the same loop."""


def iterate(network: Denoiser, schedule: Schedule, inputs: LoopInputs, on_step: OnStep) -> Tensor:
    """The loop itself: no transfers from or to the device, so it can be captured as a graph."""
    noise, steps = inputs.noise, inputs.noise.shape[0]
    latents = noise[0]
    on_step(0, None)
    for i, step in enumerate(schedule.coefficients(steps)):
        output = _predict(network, latents, inputs.timesteps[i], inputs.conditions, inputs.guidance)
        x0 = step.x0_from_sample * latents + step.x0_from_output * output
        if schedule.clip is not None:
            x0 = x0.clamp(-schedule.clip, schedule.clip)
        latents = estimate = step.c_out * x0 + step.c_skip * latents
        if i + 1 < steps:
            latents = step.signal_ahead * estimate + step.noise_ahead * noise[i + 1]
        on_step(i + 1, estimate)
    return latents


def sample(
    network: Denoiser,
    schedule: Schedule,
    noise: Tensor,
    conditions: Conditions,
    guidance: Guidance,
    on_step: OnStep,
    loop: Loop = iterate,
) -> Tensor:
    """Sample latents (B, channels, height, width), float32, from ``noise`` (steps, B, channels, height, width).

    ``on_step`` is called with 0 before the first step, and after step i with i and an estimate of the latents.
    """
    inputs = LoopInputs(
        noise=noise,
        timesteps=torch.tensor(schedule.timesteps(noise.shape[0]), device=noise.device),
        conditions=conditions,
        guidance=guidance,
    )
    return loop(network, schedule, inputs, on_step)


def _predict(
    network: Denoiser, latents: Tensor, timestep: Tensor, conditions: Conditions, guidance: Guidance
) -> Tensor:
    """The network's output in float32, with classifier-free guidance if there is any (arXiv 2207.12598, equation 6).

    The first pass has the shape of an unguided one instead of growing by the guided rows, so an unguided row gets the
    same bits whether or not a neighbour is guided. Which rows are guided is known beforehand, so nothing here waits
    for the device.
    """
    output = _forward(network, latents, timestep, conditions, guidance.embedding)
    negative = guidance.negative
    if negative is None:
        return output
    opposite = _forward(network, latents.index_select(0, negative.rows), timestep, negative.conditions, None)
    guided = opposite + negative.scales * (output.index_select(0, negative.rows) - opposite)
    return output.index_copy(0, negative.rows[: negative.count], guided[: negative.count])


def _forward(
    network: Denoiser, latents: Tensor, timestep: Tensor, conditions: Conditions, embedding: Tensor | None
) -> Tensor:
    prediction: Tensor = network(
        latents.to(conditions.text.dtype),
        timestep,
        conditions.text,
        timestep_cond=embedding,
        added_cond_kwargs=conditions.added,
        return_dict=False,
    )[0]
    return prediction.float()
