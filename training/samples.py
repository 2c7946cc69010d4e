"""Sample sheets: the fixed prompts, drawn with a stage's networks as they are, in plain diffusers."""

from __future__ import annotations

from diffusers import DiffusionPipeline, LatentConsistencyModelPipeline, UNet2DConditionModel

from training import sheets
from training.denoiser import lora_of
from training.forms import NATIVE_SCALE, TEACHER_SCALE, Form, few_steps, quiet
from training.prompts import SHEET
from training.shipping import pipeline
from training.work import Work

BASE_STEPS, FEW_STEPS = 20, 4


def base(work: Work) -> None:
    """Draw with the base model that has been written."""
    _draw("base", quiet(pipeline(work)), TEACHER_SCALE, BASE_STEPS, work)


def native(student: UNet2DConditionModel, work: Work) -> None:
    """Draw with ``student``, which is told the guidance."""
    parts = pipeline(work).components | {"unet": student}
    drawer = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    _draw("native", few_steps(drawer), NATIVE_SCALE, FEW_STEPS, work)


def lora(student: UNet2DConditionModel, work: Work) -> None:
    """Draw with ``student``, the base model's denoiser with an LCM-LoRA."""
    drawer = pipeline(work)
    drawer.unet = student
    _draw("lora", few_steps(drawer), 1.0, FEW_STEPS, work)


def style(name: str, student: UNet2DConditionModel, work: Work) -> None:
    """Draw with the LoRA of ``student``: beside the LCM-LoRA, or as the base model does if there is none."""
    drawer = pipeline(work)
    drawer.load_lora_weights({f"unet.{key}": value for key, value in lora_of(student).items()}, adapter_name="style")
    if work.lora.exists():
        drawer.load_lora_weights(str(work.lora), adapter_name="lcm")
        drawer.set_adapters(["lcm", "style"], [1.0, 1.0])
        _draw(name, few_steps(drawer), 1.0, FEW_STEPS, work)
    else:
        _draw(name, quiet(drawer), TEACHER_SCALE, BASE_STEPS, work)


def _draw(name: str, drawer: DiffusionPipeline, scale: float, steps: int, work: Work) -> None:
    drawn = Form(name=name, pipeline=drawer, scale=scale).draw(SHEET, steps)
    sheets.save(sheets.pixels(drawn), work.sheet(name))
