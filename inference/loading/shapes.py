"""A network's configuration, inferred from the shapes of its weights, so that a single file needs none beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.loading.unsupported import UnsupportedError

Shapes = Mapping[str, tuple[int, ...]]
"""By the weights' names in diffusers or transformers."""

HEAD_WIDTH = 64
"""Channels per attention head in CLIP's encoders and in every denoiser after Stable Diffusion 1."""
SD1_HEADS = 8
"""Stable Diffusion 1 has the same number of heads at every level; later models have heads of a fixed width."""
TIME_ID_WIDTH = 256
"""Width of the sinusoidal embedding of each of the six numbers that tell SDXL size and crop."""
NORM_GROUPS = 32


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of the ``UNet2DConditionModel`` that has these weights."""
    levels = range(_count(shapes, "down_blocks."))
    channels = [_shape(shapes, f"down_blocks.{level}.resnets.0.conv1.weight")[0] for level in levels]
    layers = _count(shapes, "down_blocks.0.resnets.")
    down = [_depths(shapes, f"down_blocks.{level}", layers) for level in levels]
    up = [_depths(shapes, f"up_blocks.{level}", layers + 1) for level in levels]
    middle = _depths(shapes, "mid_block", 1)
    linear = len(_first(shapes, ".proj_in.weight")) == 2
    conv_in = _shape(shapes, "conv_in.weight")
    guided = shapes.get("time_embedding.cond_proj.weight")
    return {
        "in_channels": conv_in[1],
        "out_channels": _shape(shapes, "conv_out.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if any(depths) else "DownBlock2D" for depths in down],
        "up_block_types": ["CrossAttnUpBlock2D" if any(depths) else "UpBlock2D" for depths in up],
        "mid_block_type": _middle_type(shapes, attends=any(middle)),
        "transformer_layers_per_block": [*(_deep(depths) for depths in down[:-1]), _deepest(down[-1], middle)],
        "reverse_transformer_layers_per_block": [_deep(depths) for depths in up],
        "cross_attention_dim": _first(shapes, ".attn2.to_k.weight")[1],
        "attention_head_dim": [width // HEAD_WIDTH or 1 for width in channels] if linear else SD1_HEADS,
        "use_linear_projection": linear,
        "norm_num_groups": NORM_GROUPS,
        "time_cond_proj_dim": guided[1] if guided else None,
        **_size_condition(shapes),
    }


def _size_condition(shapes: Shapes) -> dict[str, Any]:
    added = shapes.get("add_embedding.linear_1.weight")
    if added is None:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_ID_WIDTH,
        "projection_class_embeddings_input_dim": added[1],
    }


def _middle_type(shapes: Shapes, *, attends: bool) -> str | None:
    """SSD-1B has no attention in the middle block; smaller models have no middle block at all."""
    if attends:
        return "UNetMidBlock2DCrossAttn"
    return "UNetMidBlock2D" if _count(shapes, "mid_block.") else None


def _depths(shapes: Shapes, block: str, layers: int) -> list[int]:
    """Number of transformer blocks after each residual block."""
    return [_count(shapes, f"{block}.attentions.{layer}.transformer_blocks.") for layer in range(layers)]


def _deep(depths: list[int]) -> int | list[int]:
    """A level without attention has depth 1 in diffusers' configurations, where it has no effect."""
    depths = [depth or 1 for depth in depths]
    return depths[0] if len(set(depths)) == 1 else depths


def _deepest(depths: list[int], middle: list[int]) -> int | list[int]:
    """The last level's depth is also the middle block's."""
    return _deep(depths if any(depths) else middle)


def vae_config(shapes: Shapes, *, sdxl: bool) -> dict[str, Any]:
    """Configuration of the ``AutoencoderKL`` with these weights; no shape tells the scaling factor of its latents."""
    levels = range(_count(shapes, "encoder.down_blocks."))
    return {
        "block_out_channels": [
            _shape(shapes, f"encoder.down_blocks.{level}.resnets.0.conv1.weight")[0] for level in levels
        ],
        "down_block_types": ["DownEncoderBlock2D" for _ in levels],
        "up_block_types": ["UpDecoderBlock2D" for _ in levels],
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets."),
        "latent_channels": _shape(shapes, "decoder.conv_in.weight")[1],
        "norm_num_groups": NORM_GROUPS,
        "scaling_factor": 0.13025 if sdxl else 0.18215,
        "force_upcast": sdxl,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def text_config(shapes: Shapes, *, open_clip: bool) -> dict[str, Any]:
    """The configuration of the CLIP text encoder that has these weights."""
    words, width = _shape(shapes, "embeddings.token_embedding.weight")
    projection = shapes.get("text_projection.weight", (width, width))
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "encoder.layers.0.mlp.fc1.weight")[0],
        "projection_dim": projection[0],
        "num_hidden_layers": _count(shapes, "encoder.layers."),
        "num_attention_heads": width // HEAD_WIDTH or 1,
        "max_position_embeddings": _shape(shapes, "embeddings.position_embedding.weight")[0],
        "hidden_act": "gelu" if open_clip else "quick_gelu",
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1,
    }


def _count(shapes: Shapes, beginning: str) -> int:
    """Number of different name components that follow ``beginning``."""
    return len({name[len(beginning) :].partition(".")[0] for name in shapes if name.startswith(beginning)})


def _shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    if name not in shapes:
        raise UnsupportedError(f"there is no {name}")
    return shapes[name]


def _first(shapes: Shapes, ending: str) -> tuple[int, ...]:
    for name, shape in shapes.items():
        if name.endswith(ending):
            return shape
    raise UnsupportedError(f"there is no …{ending}")
