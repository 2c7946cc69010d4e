"""Which models a LoRA fits, told from the names and shapes of what it changes. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from inference.catalog.entries import Family
from inference.catalog.header import Header

CONTEXT_WIDTHS = {768: Family.SD15, 1024: Family.SD21, 2048: Family.SDXL}
"""Width of the text that cross-attention reads."""
MIDDLE_OF_SDXL = ("mid_block_attentions_", "middle_block_1_")
"""Layers that SDXL's distilled relatives do without."""
LOWEST_OF_SDXL = re.compile(r"(?:down_blocks_2_attentions_[01]|input_blocks_[78]_1)_transformer_blocks_(\d+)_")
"""The lowest level on the way down, where they differ in depth: ten blocks in SDXL, four in SSD-1B, two in Vega."""


def lora_family(header: Header) -> Family | None:
    """Which models a LoRA with this header was made for; None for others than these, or if nothing tells."""
    flat = {name.replace(".processor.", ".").replace(".", "_"): shape for name, shape in header.shapes.items()}
    widths = {name: _inputs(shape) for name, shape in flat.items() if "down_weight" in name or "lora_A" in name}
    by_attention = [CONTEXT_WIDTHS.get(widths[name]) for name in widths if "attn2_to_k" in name or "attn2_to_v" in name]
    family: Family | None = by_attention[0] if by_attention else None
    if family is None and any(name.startswith(("lora_te1_", "lora_te2_", "text_encoder_2_")) for name in flat):
        family = Family.SDXL
    elif family is None:
        family = next((CONTEXT_WIDTHS.get(widths[name]) for name in widths if "self_attn" in name), None)
    return _relative_of_sdxl(flat) if family is Family.SDXL else family


def _relative_of_sdxl(layers: Collection[str]) -> Family:
    """SDXL, unless the layers that a LoRA changes reach just as deep as a distilled relative is."""
    if any(middle in layer for layer in layers for middle in MIDDLE_OF_SDXL):
        return Family.SDXL
    depths = [int(found[1]) + 1 for layer in layers if (found := LOWEST_OF_SDXL.search(layer))]
    if not depths or max(depths) > 4:
        return Family.SDXL
    return Family.SSD1B if max(depths) > 2 else Family.VEGA


def _inputs(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 0
