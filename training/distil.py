"""Distils the guided base model into few-step forms: a native Latent Consistency Model and an LCM-LoRA.

The student is parameterised as in arXiv 2310.04378: f(x, c, w, t) = c_skip(t) x + c_out(t) x0(x, v, t), with w embedded
for the native form. At the timesteps used here c_skip ≈ 0 and c_out ≈ 1 (timestep scaling 10: c_skip(19) = 7e-6), so
that x0 itself is compared.

What differs from the paper: its loss compares f at t with a moving average of f at t - k, one solver step of the
guided teacher apart (equations 14 and 17, algorithm 1), and learns the jump to t = 0 bit by bit. Here the target is the
teacher's own: two guided DDIM steps, t → t/2 → 0, and the squared error. A network this small can afford the second
teacher step, and the published loss had not settled after the few hundred steps that a processor has time for. The
guided velocity is v = v(∅) + w (v(c) - v(∅)), so w = 1 means no guidance; as in diffusers' pipeline, w - 1 is embedded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from training import denoiser
from training.base import choose
from training.latents import Latents
from training.loop import Draw, Group, Loop, half
from training.recipe import TIMESTEPS, Recipe, Stage, device
from training.schedule import Schedule
from training.text import Captioner
from training.tokenizer import ids
from training.work import Work

SOLVER_STEPS = 50
"""The timesteps that samplers visit: 19, 39, … 999 (diffusers' ``original_inference_steps``)."""
FIRST_SHARE = 0.2
"""Share of examples at t = 999 alone, where every drawing begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """The base model with classifier-free guidance; ``empty`` (1, tokens, width) embeds the empty caption."""

    network: UNet2DConditionModel
    schedule: Schedule
    empty: Tensor

    @torch.no_grad()
    def target(self, x: Tensor, t: Tensor, words: Tensor, scales: Tensor) -> Tensor:
        """x0 after two guided DDIM steps from ``x`` (B, C, 16, 16) at ``t`` (B,)."""
        middle = t // 2
        x = self.schedule.ddim(x, self._velocity(x, t, words, scales), t, middle)
        return self.schedule.split(x, self._velocity(x, middle, words, scales), middle)[0]

    def _velocity(self, x: Tensor, t: Tensor, words: Tensor, scales: Tensor) -> Tensor:
        both = torch.cat([words, self.empty.expand_as(words)])
        with half(x.device):
            v = self.network(torch.cat([x, x]), torch.cat([t, t]), both).sample
        told, untold = v.float().chunk(2)
        guided: Tensor = untold + scales.view(-1, 1, 1, 1) * (told - untold)
        return guided


def guidance_embedding(scales: Tensor, width: int) -> Tensor:
    """Sinusoids (B, width) of w - 1 for guidance scales w (B,), exactly diffusers' ``get_guidance_scale_embedding``."""
    half_width = width // 2
    step = torch.log(torch.tensor(10_000.0)) / (half_width - 1)
    frequencies = torch.exp(torch.arange(half_width, dtype=torch.float32) * -step).to(scales.device)
    angles = (scales - 1.0)[:, None] * 1000.0 * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], 1)


def native(recipe: Recipe, work: Work) -> None:
    """Distil every guidance scale of the recipe's range into one network; leaves ``work.native``."""
    unet = UNet2DConditionModel.from_pretrained(work.base / "unet")
    student = denoiser.told_guidance(unet, recipe.guidance_width)
    low, high = recipe.native_scales

    def scales(draw: Draw) -> Tensor:
        return torch.rand(recipe.native.batch, generator=draw.generator) * (high - low) + low

    _train("native", recipe, recipe.native, work, student, tuple(student.parameters()), scales)
    student.save_pretrained(work.native)


def lora(recipe: Recipe, work: Work) -> None:
    """Distil one guidance scale into a LoRA (arXiv 2311.05556); leaves ``work.lora``."""
    torch.manual_seed(recipe.seed)
    student = UNet2DConditionModel.from_pretrained(work.base / "unet")
    learnt = denoiser.add_lora(student, recipe.lora_rank)

    def scales(_: Draw) -> Tensor:
        return torch.full((recipe.lora.batch,), recipe.lora_scale)

    _train("lora", recipe, recipe.lora, work, student, learnt, scales)
    denoiser.save_lora(student, work.lora)


def _train(
    name: str,
    recipe: Recipe,
    stage: Stage,
    work: Work,
    student: UNet2DConditionModel,
    learnt: tuple[torch.nn.Parameter, ...],
    scales_of: Callable[[Draw], Tensor],
) -> None:
    where, latents = device(), Latents.read(work)
    captioner, schedule = Captioner(work, latents), Schedule.scaled_linear(where)
    encoder = CLIPTextModel.from_pretrained(work.base / "text_encoder").to(where).requires_grad_(False)
    empty = encoder(ids(captioner.tokenizer, [""]).to(where)).last_hidden_state
    frozen = UNet2DConditionModel.from_pretrained(work.base / "unet").to(where).requires_grad_(False)
    teacher = Teacher(network=_quick(frozen, recipe), schedule=schedule, empty=empty)
    network, embedded = _quick(student.to(where), recipe), student.config.time_cond_proj_dim
    z, plain = latents.z.to(where), latents.plain
    loop = Loop(name, stage, [Group(parameters=learnt)], work.checkpoint(name), seed=recipe.seed + 1)

    def loss_of(draw: Draw) -> Tensor:
        chosen = choose(len(z), plain, stage.batch, draw.generator)
        t, scales = timesteps(stage.batch, draw.generator).to(where), scales_of(draw).to(where)
        z0 = z[chosen.to(where)].float()
        x = schedule.noised(z0, torch.randn_like(z0), t)
        words = encoder(captioner.ids(chosen, draw.step, empty=0.0).to(where)).last_hidden_state
        target = teacher.target(x, t, words, scales)
        told = guidance_embedding(scales, embedded) if embedded else None
        with half(where):
            v = network(x, t, words, timestep_cond=told).sample
        return F.mse_loss(schedule.split(x, v.float(), t)[0], target)

    loop.run(loss_of)


def timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Random ones, (count,), of those that samplers visit."""
    stride = TIMESTEPS // SOLVER_STEPS
    t = (torch.randint(SOLVER_STEPS, (count,), generator=generator) + 1) * stride - 1
    t[torch.rand(count, generator=generator) < FIRST_SHARE] = TIMESTEPS - 1
    return t


def _quick(network: UNet2DConditionModel, recipe: Recipe) -> UNet2DConditionModel:
    return torch.compile(network) if recipe.compiled else network
