"""Models of a known family that cannot be used here: they take more than a noisy latent, were trained with another kind
of noise, or are incomplete. Pure."""

from __future__ import annotations

from collections.abc import Iterable

TASKS = {5: "a model that draws by depth", 7: "an upscaler", 8: "a model that edits pictures", 9: "an inpainting model"}
"""What a denoiser with so many input channels is for: four are the noisy latent, the others a picture."""

OTHER_SCHEDULERS = ("EDM", "FlowM")
"""Prefixes of diffusers' schedulers that have no ᾱ for each of the training timesteps."""
EDM_MARK = "edm_"
"""Prefix of the tensors by which a single file declares such noise, as in Playground v2.5 and CosXL."""
OTHER_NOISE = "it was trained with another kind of noise ({name}) than Stable Diffusion's"

TEXTS = ("cond_stage_model.", "conditioner.embedders.")
AUTOENCODERS = ("first_stage_model.", "decoder.")
"""Prefixes of their tensors in a single file."""
NO_TEXT = "there is no text encoder in it: name it in the catalogue as the “unet” of a whole model"
NO_AUTOENCODER = "there is no autoencoder in it: name it in the catalogue, with one as its “vae”"


def other_inputs(channels_in: int, channels_out: int) -> str | None:
    """Why a denoiser with these channels cannot be used; None if it can."""
    if channels_in == channels_out:
        return None
    task = TASKS.get(channels_in, "a model for another task")
    return f"{task} ({channels_in} channels in, {channels_out} out), which needs more than a prompt"


def other_scheduler(name: str) -> str | None:
    """Why a pipeline with this scheduler of diffusers cannot be used; None if it can."""
    return OTHER_NOISE.format(name=name) if name.startswith(OTHER_SCHEDULERS) else None


def other_noise(tensors: Iterable[str]) -> str | None:
    """Why a single file with tensors of these names cannot be used; None if it can."""
    return OTHER_NOISE.format(name="EDM") if any(name.startswith(EDM_MARK) for name in tensors) else None


def lacking(tensors: Iterable[str]) -> str | None:
    """Why a single file with a denoiser and these tensors is not a whole model, and what to do; None if it is one."""
    names = tuple(tensors)
    if not any(name.startswith(TEXTS) for name in names):
        return NO_TEXT
    return None if any(name.startswith(AUTOENCODERS) for name in names) else NO_AUTOENCODER
