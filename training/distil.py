"""Distils the guided base model into few-step forms: a native Latent Consistency Model and an LCM-LoRA.

The student is parameterised as in arXiv 2310.04378: f(x, c, w, t) = c_skip(t) x + c_out(t) x0(x, v, t), with w embedded
for the native form. At the timesteps used here c_skip ≈ 0 and c_out ≈ 1 (timestep scaling 10: c_skip(19) = 7e-6), so x0
itself is compared.

The difference from the paper: its loss compares f at t with an EMA of f at t - k, one solver step of the guided teacher
apart (equations 14 and 17, algorithm 1), and learns the jump to t = 0 bit by bit. Here the teacher walks a whole
trajectory (a *way*) first: from noise through all 50 guided DDIM steps. Some of its points are kept together with its
end, and f at a point is compared with that end by the squared error. A teacher this small can afford whole
trajectories, they are computed once for both forms, and the student learns the picture that 50 steps give and not an
approximation of it. The guided velocity is v = v(∅) + w (v(c) - v(∅)), so w = 1 means no guidance; as in diffusers'
pipeline, w - 1 is embedded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from training import denoiser, samples
from training.base import choose
from training.latents import Latents
from training.loop import Draw, Group, Loop, bar, half, save
from training.recipe import TIMESTEPS, Recipe, Stage, device
from training.schedule import Schedule
from training.text import Captioner
from training.work import Work

STRIDE = TIMESTEPS // 50
TIMES = range(TIMESTEPS - 1, 0, -STRIDE)
"""The timesteps that samplers visit: 999, 979, … 19 (diffusers' ``original_inference_steps`` is 50)."""
FIRST_SHARE = 0.25
"""Share of examples taken at t = 999, where every drawing begins."""
KEPT = 12
"""Points that are kept of a trajectory, including the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """The base model with classifier-free guidance; ``empty`` (1, tokens, width) embeds the empty caption."""

    network: UNet2DConditionModel
    schedule: Schedule
    empty: Tensor

    @torch.no_grad()
    def walk(self, x: Tensor, words: Tensor, scales: Tensor, kept: list[int]) -> tuple[Tensor, Tensor]:
        """From noise ``x`` (B, C, 16, 16) through all steps: the ``kept`` points, (B, K, C, 16, 16), and the end."""
        points = []
        for step, t in enumerate(TIMES):
            at = torch.full((len(x),), t, device=x.device)
            if step in kept:
                points.append(x)
            v = self._velocity(x, at, words, scales)
            if t > TIMES[-1]:
                x = self.schedule.ddim(x, v, at, at - STRIDE)
        return torch.stack(points, 1), self.schedule.split(x, v, at)[0]

    def _velocity(self, x: Tensor, t: Tensor, words: Tensor, scales: Tensor) -> Tensor:
        both = torch.cat([words, self.empty.expand_as(words)])
        with half(x.device):
            v = self.network(torch.cat([x, x]), torch.cat([t, t]), both).sample
        told, untold = v.float().chunk(2)
        guided: Tensor = untold + scales.view(-1, 1, 1, 1) * (told - untold)
        return guided


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Trajectories of the teacher: ``points`` (N, K, C, 16, 16) at timesteps ``times`` (N, K), their ``ends``
    (N, C, 16, 16), the guidance ``scales`` (N,), and the captions' token ids ``said`` (N, tokens)."""

    points: Tensor
    times: Tensor
    ends: Tensor
    scales: Tensor
    said: Tensor

    @classmethod
    def read(cls, work: Work) -> Ways:
        return cls(**torch.load(work.ways, weights_only=True))


def guidance_embedding(scales: Tensor, width: int) -> Tensor:
    """Sinusoids (B, width) of w - 1 for guidance scales w (B,), exactly diffusers' ``get_guidance_scale_embedding``."""
    half_width = width // 2
    step = torch.log(torch.tensor(10_000.0)) / (half_width - 1)
    frequencies = torch.exp(torch.arange(half_width, dtype=torch.float32) * -step).to(scales.device)
    angles = (scales - 1.0)[:, None] * 1000.0 * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], 1)


def walk(recipe: Recipe, work: Work) -> None:
    """Compute ``recipe.ways`` batches of teacher trajectories, as many as the recipe's time limit allows but at least
    two; writes ``work.ways``. Every second batch has the LCM-LoRA's guidance scale, the others any in the native form's
    range."""
    if work.ways.exists():
        return
    where, latents = device(), Latents.read(work)
    captioner, schedule = Captioner(work, latents), Schedule.scaled_linear(where)
    encoder, teacher = _teacher(work, captioner, schedule)
    low, high = recipe.native_scales

    def batch(number: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        count = recipe.native.batch
        chosen = choose(len(latents.z), latents.plain, count, generator)
        said = captioner.ids(chosen, number, empty=0.0)
        scales = torch.rand(count, generator=generator) * (high - low) + low
        if number % 2 == 0:
            scales.fill_(recipe.lora_scale)
        noise = torch.randn(count, *latents.z.shape[1:], generator=generator)
        kept = [0, *(torch.randperm(len(TIMES) - 1, generator=generator)[: KEPT - 1] + 1).sort().values.tolist()]
        words = encoder(said.to(where)).last_hidden_state
        points, ends = teacher.walk(noise.to(where), words, scales.to(where), kept)
        times = torch.tensor([TIMES[step] for step in kept]).expand(count, -1)
        return points.half().cpu(), times, ends.half().cpu(), scales, said

    found: list[tuple[Tensor, ...]] = []
    began = time.monotonic()
    progress = seconds = 0.0
    with bar("ways") as shown:
        while progress < 1:
            found.append(batch(len(found)))
            seconds = time.monotonic() - began
            progress = recipe.ways_progress(len(found), seconds)
            shown.update(progress - shown.n)
    print(f"ways: {len(found)} of {recipe.ways} batches in {timedelta(seconds=round(seconds))}", flush=True)
    names = ("points", "times", "ends", "scales", "said")
    save(dict(zip(names, map(torch.cat, zip(*found, strict=True)), strict=True)), work.ways)


def native(recipe: Recipe, work: Work) -> None:
    """Distil all guidance scales of the recipe's range into one network; writes ``work.native``."""
    unet = UNet2DConditionModel.from_pretrained(work.base / "unet")
    student = denoiser.told_guidance(unet, recipe.guidance_width).to(device())
    ways = Ways.read(work)
    show = partial(samples.native, student, work)
    _train("native", recipe, recipe.native, work, student, tuple(student.parameters()), ways, show)
    student.save_pretrained(work.native)


def lora(recipe: Recipe, work: Work) -> None:
    """Distil one guidance scale into a LoRA (arXiv 2311.05556); writes ``work.lora``."""
    torch.manual_seed(recipe.seed)
    student = UNet2DConditionModel.from_pretrained(work.base / "unet").to(device())
    learnt = denoiser.add_lora(student, recipe.lora_rank)
    ways = Ways.read(work)
    fitting = ways.scales == recipe.lora_scale
    chosen = {field.name: getattr(ways, field.name)[fitting] for field in fields(Ways)}
    show = partial(samples.lora, student, work)
    _train("lora", recipe, recipe.lora, work, student, learnt, Ways(**chosen), show)
    denoiser.save_lora(student, work.lora)


def _train(
    name: str,
    recipe: Recipe,
    stage: Stage,
    work: Work,
    student: UNet2DConditionModel,
    learnt: tuple[torch.nn.Parameter, ...],
    ways: Ways,
    show: Callable[[], None],
) -> None:
    where, schedule = device(), Schedule.scaled_linear(device())
    encoder = CLIPTextModel.from_pretrained(work.base / "text_encoder").to(where).requires_grad_(False)
    embedded = student.config.time_cond_proj_dim
    loop = Loop(name, stage, [Group(parameters=learnt)], work, seed=recipe.seed + 1)

    def loss_of(draw: Draw) -> Tensor:
        way = torch.randint(len(ways.ends), (stage.batch,), generator=draw.generator)
        point = torch.randint(ways.times.shape[1], (stage.batch,), generator=draw.generator)
        point[torch.rand(stage.batch, generator=draw.generator) < FIRST_SHARE] = 0
        x, t = ways.points[way, point].to(where).float(), ways.times[way, point].to(where)
        words = encoder(ways.said[way].to(where)).last_hidden_state
        told = guidance_embedding(ways.scales[way].to(where), embedded) if embedded else None
        with half(where):
            v = student(x, t, words, timestep_cond=told).sample
        return F.mse_loss(schedule.split(x, v.float(), t)[0], ways.ends[way].to(where).float())

    loop.run(loss_of, show)


def _teacher(work: Work, captioner: Captioner, schedule: Schedule) -> tuple[CLIPTextModel, Teacher]:
    where = device()
    encoder = CLIPTextModel.from_pretrained(work.base / "text_encoder").to(where).requires_grad_(False)
    empty = encoder(captioner.reader.ids([""]).to(where)).last_hidden_state
    frozen = UNet2DConditionModel.from_pretrained(work.base / "unet").to(where).requires_grad_(False)
    return encoder, Teacher(network=frozen, schedule=schedule, empty=empty)
