"""From diffusers' configuration of a noise schedule to our sampler's."""

from __future__ import annotations

from typing import Any

from inference.loading.unsupported import UnsupportedError
from inference.schedule import Schedule


def schedule_of(scheduler: Any) -> Schedule:
    """The schedule of a diffusers ``LCMScheduler``."""
    config = scheduler.config
    if config.thresholding:
        raise UnsupportedError("dynamic thresholding is not meant for latent diffusion")
    alphas = tuple(scheduler.alphas_cumprod.tolist())
    if config.prediction_type == "epsilon" and min(alphas) == 0:
        raise UnsupportedError("it predicts noise, which is of no use at a timestep that is nothing but noise")
    return Schedule(
        alphas=alphas,
        prediction=config.prediction_type,
        original_steps=config.original_inference_steps,
        timestep_scaling=config.timestep_scaling,
        clip=config.clip_sample_range if config.clip_sample else None,
    )
