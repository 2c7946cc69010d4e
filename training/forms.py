"""The shipped forms of the model, loaded with plain diffusers as anybody would, and one way to draw with them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from tqdm import tqdm

from training.prompts import SEED
from training.recipe import device

TEACHER_STEPS, TEACHER_SCALE, NATIVE_SCALE = 50, 3.0, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A way to draw; ``scale`` is its guidance scale in diffusers' convention."""

    name: str
    pipeline: DiffusionPipeline
    scale: float

    @torch.no_grad()
    def draw(self, prompts: Sequence[str], steps: int, batch: int = 32) -> Tensor:
        """Pictures (N, 3, H, W) in 0..1; picture i starts from the noise of seed SEED + i, whatever the form."""
        drawn = []
        for start in tqdm(range(0, len(prompts), batch), desc=f"{self.name}, {steps} steps"):
            some = list(prompts[start : start + batch])
            generators = [torch.Generator().manual_seed(SEED + start + i) for i in range(len(some))]
            drawn.append(
                self.pipeline(
                    some,
                    num_inference_steps=steps,
                    guidance_scale=self.scale,
                    generator=generators,
                    output_type="pt",
                ).images.cpu()
            )
        return torch.cat(drawn)


def teacher(models: Path) -> Form:
    """The base model with its own sampler."""
    return Form(name="teacher", pipeline=_quiet(StableDiffusionPipeline.from_pretrained(models / "emoji")),
                scale=TEACHER_SCALE)  # fmt: skip


def undistilled(models: Path) -> Form:
    """The base model with the few-step sampler and no guidance: what distillation has to beat."""
    return Form(name="undistilled", pipeline=_few_steps(models), scale=1.0)


def native(models: Path) -> Form:
    unet = UNet2DConditionModel.from_pretrained(models / "emoji-lcm")
    pipeline = LatentConsistencyModelPipeline.from_pretrained(models / "emoji", unet=unet)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return Form(name="native", pipeline=_quiet(pipeline), scale=NATIVE_SCALE)


def lora(models: Path, style: str | None = None) -> Form:
    """The base model with its LCM-LoRA and, if given, a style's LoRA."""
    pipeline = _few_steps(models)
    pipeline.load_lora_weights(str(models / "emoji-lcm-lora"), adapter_name="lcm")
    if style:
        pipeline.load_lora_weights(str(models / "loras"), weight_name=f"emoji-{style}.safetensors", adapter_name=style)
        pipeline.set_adapters(["lcm", style], [1.0, 1.0])
    pipeline.fuse_lora()
    return Form(name=style or "lora", pipeline=pipeline, scale=1.0)


def _few_steps(models: Path) -> DiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(models / "emoji")
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return _quiet(pipeline)


def _quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device(), torch.float32)
