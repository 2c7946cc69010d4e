"""What people do without this project: the usual notebook (A), and the usual program with several models (B)."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, LCMScheduler
from numpy.typing import NDArray

from benchmarks.checkpoints import Checkpoints

STEPS = 4


def baseline_precision(device: torch.device) -> torch.dtype:
    """What the documentation's examples use: half precision on a GPU, single on a processor."""
    return torch.float32 if device.type == "cpu" else torch.float16


class Notebook:
    """A: ``from_pretrained``, ``load_lora_weights`` (never fused), LCMScheduler; one prompt at a time, guidance 1."""

    def __init__(self, checkpoint: Path, lcm_lora: Path, device: torch.device) -> None:
        self.device = device
        self.pipeline: Any = DiffusionPipeline.from_pretrained(checkpoint, dtype=baseline_precision(device)).to(device)
        self.pipeline.scheduler = LCMScheduler.from_config(self.pipeline.scheduler.config)
        self.load_lora(lcm_lora, "lcm")
        self.pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def of(cls, checkpoints: Checkpoints, name: str, device: torch.device) -> Notebook:
        """The notebook of one model."""
        return cls(checkpoints.checkpoint(name), checkpoints.lcm_lora, device)

    def load_lora(self, file: Path, adapter: str) -> None:
        """Load a LoRA from disk, as a notebook does."""
        self.pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=adapter)

    def draw(self, prompt: str, seed: int, side: int) -> NDArray[np.uint8]:
        """One picture (height, width, 3), made by the pipeline's own means from beginning to end."""
        generator = torch.Generator("cpu").manual_seed(seed)
        drawn = self.pipeline(
            prompt, num_inference_steps=STEPS, guidance_scale=1.0, height=side, width=side, generator=generator
        )
        return np.asarray(drawn.images[0])

    def with_tiny_vae(self, tiny_vae: Path) -> None:
        """Replace the autoencoder, to compare pictures of that kind."""
        network = AutoencoderTiny.from_pretrained(tiny_vae, dtype=baseline_precision(self.device))
        self.pipeline.vae = network.to(self.device)

    def with_style(self, lcm_lora: Path, style: Path | None, strength: float) -> None:
        """Change the active style: unfuse, unload, load again, fuse."""
        self.pipeline.unfuse_lora()
        self.pipeline.unload_lora_weights()
        self.load_lora(lcm_lora, "lcm")
        if style is not None:
            self.load_lora(style, "style")
            self.pipeline.set_adapters(["lcm", "style"], [1.0, strength])
        self.pipeline.fuse_lora(adapter_names=["lcm"] if style is None else ["lcm", "style"])
        synchronise(self.device)


class Reloading:
    """B: every change of the model drops the old notebook and builds a new one."""

    def __init__(self, groups: Mapping[str, Checkpoints], device: torch.device) -> None:
        self._groups = groups
        self._device = device
        self._name = ""
        self._notebook: Notebook | None = None

    def switch(self, name: str) -> Notebook:
        """The notebook of the model ``name``, built anew unless it was used last."""
        if self._notebook is None or self._name != name:
            self.drop()
            self._notebook, self._name = Notebook.of(self._groups[name], name, self._device), name
            synchronise(self._device)
        return self._notebook

    def draw(self, name: str, prompt: str, seed: int, side: int) -> NDArray[np.uint8]:
        """One picture of the model ``name``."""
        return self.switch(name).draw(prompt, seed, side)

    def drop(self) -> None:
        """Free what is in memory."""
        self._notebook = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
