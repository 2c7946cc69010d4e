"""Writes a LoRA with the key names and metadata of kohya-ss' scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

PARTS = {
    ".lora_A.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_up.weight",
    ".lora.down.weight": ".lora_down.weight",
    ".lora.up.weight": ".lora_up.weight",
}


def kohya_keys(lora: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The tensors of a LoRA, renamed from diffusers' (``unet.….lora_A.weight``) to kohya's, with an alpha per layer."""
    renamed: dict[str, Tensor] = {}
    for key, value in lora.items():
        old = next(end for end in PARTS if key.endswith(end))
        layer = "lora_unet_" + key.removeprefix("unet.").removesuffix(old).replace(".", "_")
        renamed[layer + PARTS[old]] = value.half().contiguous()
        renamed[layer + ".alpha"] = torch.tensor(float(alpha), dtype=torch.float16)
    return renamed


def save_kohya(lora: Mapping[str, Tensor], path: Path, *, rank: int, alpha: float, name: str) -> None:
    """Write ``lora`` (diffusers' names) to ``path`` with kohya's names and metadata."""
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_output_name": name,
        "format": "pt",
    }
    save_file(kohya_keys(lora, alpha), path, metadata=metadata)
