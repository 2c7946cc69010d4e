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
        for start in tqdm(range(0, len(prompts), batch), desc=f"{self.name}, {steps} steps", leave=False):
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
    pipeline = StableDiffusionPipeline.from_pretrained(models / "emoji")
    return Form(name="teacher", pipeline=quiet(pipeline), scale=TEACHER_SCALE)


def undistilled(models: Path) -> Form:
    """The base model with the few-step sampler and no guidance: what distillation has to beat."""
    pipeline = StableDiffusionPipeline.from_pretrained(models / "emoji")
    return Form(name="undistilled", pipeline=few_steps(pipeline), scale=1.0)


def native(models: Path) -> Form:
    unet = UNet2DConditionModel.from_pretrained(models / "emoji-lcm")
    pipeline = LatentConsistencyModelPipeline.from_pretrained(models / "emoji", unet=unet)
    return Form(name="native", pipeline=few_steps(pipeline), scale=NATIVE_SCALE)


def lora(models: Path, style: str | None = None) -> Form:
    """The base model with its LCM-LoRA and, if given, a style's LoRA."""
    pipeline = few_steps(StableDiffusionPipeline.from_pretrained(models / "emoji"))
    pipeline.load_lora_weights(str(models / "emoji-lcm-lora"), adapter_name="lcm")
    if style:
        pipeline.load_lora_weights(str(models / "loras"), weight_name=f"emoji-{style}.safetensors", adapter_name=style)
        pipeline.set_adapters(["lcm", style], [1.0, 1.0])
    pipeline.fuse_lora()
    return Form(name=style or "lora", pipeline=pipeline, scale=1.0)


def few_steps(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """``pipeline`` with the few-step sampler, ready to draw."""
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return quiet(pipeline)


def quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """``pipeline`` without progress bars, ready to draw."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device(), torch.float32)
