"""Which models a LoRA fits, judging by the names and shapes of the layers that it changes. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from inference.catalog.entries import Family
from inference.catalog.header import Header

CONTEXT_WIDTHS = {768: Family.SD15, 1024: Family.SD21, 2048: Family.SDXL}
"""Families by the width of the text embeddings that cross-attention reads."""
READS = re.compile(r"down_weight|lora_A|_diff$")
"""Matches the tensors that are as wide as what a layer reads."""
MIDDLE_OF_SDXL = ("mid_block_attentions_", "middle_block_1_")
"""Layers that SDXL's distilled relatives lack."""
IN_A_DENOISER = re.compile(r"(?:down|up|put)_blocks_\d|mid(?:dle)?_block_")
"""Matches layers of these models' denoisers, in both naming schemes."""
IN_CLIP = re.compile(
    r"(?:lora_te\d?|text_encoder(?:_2)?|text_encoders_clip_[lg]_transformer)_(?:text_model_)?encoder_layers_\d+_self_attn"
)
"""The same for their text encoders."""
TWO_ENCODERS = ("lora_te1_", "lora_te2_", "text_encoder_2_", "text_encoders_clip_g_")
"""Prefixes of names that only models with a second text encoder need."""
LOWEST_OF_SDXL = re.compile(r"(?:down_blocks_2_attentions_[01]|input_blocks_[78]_1)_transformer_blocks_(\d+)_")
"""The lowest level on the way down, where the depths differ: ten blocks in SDXL, four in SSD-1B, two in Vega."""
SD2_ARCHITECTURE = "stable-diffusion-v2"
"""The ModelSpec's name of it, without the part that says what it was trained for."""
DEEP_IN_SDXL = re.compile(r"(?:attentions_\d|put_blocks_\d_1|middle_block_1)_transformer_blocks_[1-9]")
"""Transformer blocks after the first one of an attention layer: Stable Diffusion 1 and 2 have one each."""
HIGHEST_OF_SD = re.compile(r"down_blocks_0_attentions_|input_blocks_[12]_1_")
"""Attention layers of the highest level, where SDXL has none."""


def lora_family(header: Header) -> Family | None:
    """The family that a LoRA with this header was made for; None if it is another one, or cannot be told."""
    flat = {name.replace(".processor.", ".").replace(".", "_"): shape for name, shape in header.shapes.items()}
    widths = {name: _inputs(shape) for name, shape in flat.items() if READS.search(name)}
    inside = {name: width for name, width in widths.items() if IN_A_DENOISER.search(name)}
    across = [width for name, width in inside.items() if "attn2_to_k" in name or "attn2_to_v" in name]
    within = [width for name, width in widths.items() if IN_CLIP.search(name)]
    family = CONTEXT_WIDTHS.get(across[0]) if across else None
    if family is None and any(name.startswith(TWO_ENCODERS) for name in flat):
        family = Family.SDXL
    elif family is None and within:
        family = CONTEXT_WIDTHS.get(within[0])
    elif not across:
        family = _by_blocks(flat, header.metadata)
    return _relative_of_sdxl(flat) if family is Family.SDXL else family


def _by_blocks(layers: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Family | None:
    """By the denoiser blocks that it changes, for a LoRA that changes nothing that reads text, like many sliders."""
    if any(DEEP_IN_SDXL.search(layer) for layer in layers):
        return Family.SDXL
    if not any(HIGHEST_OF_SD.search(layer) for layer in layers):
        return None
    said = metadata.get("ss_v2") == "True" or metadata.get("modelspec.architecture", "").startswith(SD2_ARCHITECTURE)
    linear = any("proj_in" in layer and len(shape) == 2 for layer, shape in layers.items())
    return Family.SD21 if said or linear else Family.SD15


def _relative_of_sdxl(layers: Collection[str]) -> Family:
    """SDXL, unless the layers that a LoRA changes go only as deep as a distilled relative does."""
    if any(middle in layer for layer in layers for middle in MIDDLE_OF_SDXL):
        return Family.SDXL
    depths = [int(found[1]) + 1 for layer in layers if (found := LOWEST_OF_SDXL.search(layer))]
    if not depths or max(depths) > 4:
        return Family.SDXL
    return Family.SSD1B if max(depths) > 2 else Family.VEGA


def _inputs(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 0
