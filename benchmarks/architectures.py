"""The architectures that are measured: the published networks' shapes, without their weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.catalog.entries import Family

MODELS = Path(__file__).resolve().parent.parent / "models"

LORA_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
)
"""The layers that diffusers' ``train_lcm_distill_lora_sd_wds.py`` trains, and so what an LCM-LoRA changes."""

CLIP_WORDS, CLIP_LENGTH = 49408, 77

Config = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What diffusers and transformers need to build every network of a family.

    ``text``: a configuration for each text encoder. ``words`` is the size of the vocabulary, CLIP's or a smaller one;
    ``rank`` that of the LCM-LoRA, a style has a quarter of it. ``side`` is the best side of its pictures, in pixels.
    """

    name: str
    title: str
    family: Family
    unet: Config
    vae: Config
    text: tuple[Config, ...]
    side: int
    rank: int = 64
    tiny_vae: Config = field(default_factory=dict)
    words: int = CLIP_WORDS
    length: int = CLIP_LENGTH

    @property
    def two_encoders(self) -> bool:
        """Whether there are two text encoders, as in SDXL."""
        return len(self.text) == 2


_KL: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}

_CLIP_L: Config = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}

SD15 = Architecture(
    name="sd15",
    title="SD 1.5",
    family=Family.SD15,
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    vae=_KL,
    text=(_CLIP_L,),
    side=512,
)

SDXL = Architecture(
    name="sdxl",
    title="SDXL",
    family=Family.SDXL,
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae=_KL | {"scaling_factor": 0.13025, "sample_size": 1024, "force_upcast": True},
    text=(
        _CLIP_L,
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        },
    ),
    side=1024,
)

MINIATURE = Architecture(
    name="miniature",
    title="miniature",
    family=Family.SD15,
    unet={
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
    },
    vae=_KL | {"block_out_channels": (16, 16, 32, 32), "layers_per_block": 1, "norm_num_groups": 8},
    tiny_vae={"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4},
    text=({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},),
    side=64,
    rank=4,
    words=200,
    length=16,
)
"""For the tests: everything as in SD 1.5, except the size."""


def built_in() -> Architecture:
    """The shape of the model that comes with the repository, read from its own files."""
    folder = MODELS / "emoji"
    text = _shape(folder / "text_encoder")
    return Architecture(
        name="emoji",
        title="built-in",
        family=Family.EMOJI,
        unet=_shape(folder / "unet"),
        vae=_shape(folder / "vae"),
        text=(text,),
        side=128,
        rank=14,
        words=text["vocab_size"],
        length=text["max_position_embeddings"],
    )


def _shape(folder: Path) -> Config:
    config: Config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("architectures", "model_type", "transformers_version", "dtype"):
        config.pop(key, None)
    return {key: value for key, value in config.items() if not key.startswith("_")}
