"""Names of a LoRA's tensors, as written by diffusers, peft, kohya's trainer and ComfyUI. Pure."""

from __future__ import annotations

from collections.abc import Iterable

COMPONENTS = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "unet.": "unet",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "base_model.model.": "unet",
    "diffusion_model.": "unet",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
}
"""Prefixes of names, and the networks that they stand for: kohya's, diffusers', peft's and ComfyUI's."""
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
"""Prefixes of names without a network: those of the denoiser."""

PARTS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".alpha": "alpha",
    ".diff": "weight",
    ".diff_b": "bias",
    ".w_norm": "weight",
    ".b_norm": "bias",
}
"""Suffixes of names, and what the tensors hold: kohya's, peft's, diffusers' of three generations, kohya's alpha; and
ComfyUI's and LyCORIS' for what is added to a whole weight or bias."""
WHOLE_DIFFERENCES = (".diff", ".diff_b")
"""Suffixes that only such files have, where nothing else says that they are LoRAs."""


def parse_name(name: str) -> tuple[str, str, str] | None:
    """The network, the layer as written, and which part of its change this is; None for any other kind of name."""
    whole = f"unet.{name}" if name.startswith(BLOCKS) else name
    for ending, part in PARTS.items():
        for beginning, component in COMPONENTS.items():
            if whole.startswith(beginning) and whole.endswith(ending):
                return component, whole[len(beginning) : -len(ending)], part
    return None


def foreign_name(names: Iterable[str]) -> str | None:
    """The first of ``names`` that ``parse_name`` does not recognise, if there is one."""
    return next((name for name in names if parse_name(name) is None), None)
