"""Our picture beside diffusers' own, of the same checkpoint and the same noise."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.catalog import Catalog
from inference.catalog.entries import Family, Kind, ModelEntry
from inference.contract import Adapter
from inference.drawing.batch import decode_float, draw_latents
from inference.drawing.models import load_model
from inference.drawing.text import PromptCache
from tests.inference.batches import batch, row
from tests.layouts import pipeline

PROMPT, NEGATIVE, SEED, STEPS = "a red apple on a table, oil painting", "blue", 7, 2
GUIDANCE = {Kind.NATIVE: 8.0, Kind.LORA: 1.5, Kind.MERGED: 1.0}
PSNR_DB = 50.0


@cache
def model(family: Family, kind: Kind) -> Any:
    """A pipeline to save and to draw with, not to be changed. Its weights are such as half precision has, too."""
    return pipeline(family, native=kind is Kind.NATIVE).to(torch.float16).to(torch.float32)


@cache
def reference(family: Family, kind: Kind) -> Tensor:
    """What diffusers draws with it."""
    return theirs(model(family, kind), GUIDANCE[kind])


def theirs(made: Any, guidance: float) -> Tensor:
    """The picture as the diffusers pipeline ``made`` draws it, (3, 64, 64) from 0 to 1."""
    drawn = made(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(SEED),
        width=64,
        height=64,
        output_type="pt",
    )
    picture: Tensor = drawn.images[0]
    return picture


def ours(folder: Path, family: Family, kind: Kind, sources: str, *adapters: Adapter) -> Tensor:
    """The same picture from a catalogue in ``folder`` whose one model has ``sources``."""
    (folder / "models.toml").write_text(
        f"""
default = "model"
[models.model]
family = "{family}"
kind = "{kind}"
size = [64, 64]
sides = [64, 64]
{sources}
[adapters.kohya]
family = "{family}"
weights = {{ path = "kohya.safetensors" }}
[adapters.peft]
family = "{family}"
weights = {{ path = "peft.safetensors" }}
"""
    )
    catalog = Catalog.load(folder / "models.toml")
    return drawn_with(catalog, catalog.default, GUIDANCE[kind], *adapters)


def drawn_with(catalog: Catalog, entry: ModelEntry, guidance: float, *adapters: Adapter) -> Tensor:
    """The picture by our loader and sampler, before it is rounded to bytes."""
    model = load_model(
        catalog, entry, adapters, device=torch.device("cpu"), precision=torch.float32, on_part=lambda: None
    )
    asked = row(prompt=PROMPT, negative=NEGATIVE, seed=SEED, guidance=guidance)
    order = batch(asked, model=entry.name, adapters=adapters, steps=STEPS)
    with torch.inference_mode():
        drawn = decode_float(model.vae, draw_latents(model, PromptCache(), order, lambda step, estimate: None))
    return (drawn[0] * 0.5 + 0.5).clamp(0, 1)


def draws_like_diffusers(catalog: Catalog, entry: ModelEntry, family: Family, kind: Kind) -> None:
    """Assert that ``entry``, which was made from ``model(family, kind)``, draws what that draws."""
    assert_same(drawn_with(catalog, entry, GUIDANCE[kind]), reference(family, kind))


def assert_same(mine: Tensor, reference: Tensor) -> None:
    assert reference.std() > 0.05, "a flat picture would prove nothing"
    decibels = -10 * math.log10(max(float(((mine - reference) ** 2).mean()), 1e-12))
    assert decibels >= PSNR_DB, f"{decibels:.1f} dB"


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    error = float(np.square(a.astype(float) - b.astype(float)).mean())
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)
