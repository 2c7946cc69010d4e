"""Models of a known family that cannot be drawn with: denoisers that take more than a noisy latent. Pure."""

from __future__ import annotations

TASKS = {5: "a model that draws by depth", 7: "an upscaler", 8: "a model that edits pictures", 9: "an inpainting model"}
"""What a denoiser of so many channels is for: four of them are the noisy latent, the others a picture."""


def other_inputs(channels_in: int, channels_out: int) -> str | None:
    """Why a denoiser of these channels cannot be drawn with; None if it can."""
    if channels_in == channels_out:
        return None
    task = TASKS.get(channels_in, "a model for another task")
    return f"{task} ({channels_in} channels in, {channels_out} out), which a prompt alone is not enough for"
