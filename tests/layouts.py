"""Checkpoints in every layout that others publish: the shapes of all families, small, and the original single file.

The shapes have the families' real structure (levels, depths of attention, kinds of projections, CLIP's vocabulary);
only their widths are as small as that structure allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, LCMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as Unet
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from inference.catalog.entries import Family
from inference.loading.clip_words import END, clip_tokenizer
from inference.loading.ldm import OPEN_CLIP, RESIDUAL_BLOCK, Names, unet_names, vae_names_of
from tests.checkpoints import factors, lora_targets, quiet

WIDTH, WIDTH_2 = 64, 128
"""Channels of the first and the second text embedding: one head of CLIP's, and two."""
GUIDANCE_DIM = 24
ALPHA = 1.5
"""One for all layers of a LoRA, as trainers write it: diffusers 0.42 scales some layers wrongly where they differ."""

SD1_UNET: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 64),
    "layers_per_block": 2,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "attention_head_dim": 8,
    "cross_attention_dim": WIDTH,
}
SD2_UNET = SD1_UNET | {
    "block_out_channels": (64, 64, 128, 128),
    "attention_head_dim": (1, 1, 2, 2),
    "use_linear_projection": True,
}
SDXL_UNET: dict[str, Any] = {
    "block_out_channels": (64, 64, 128),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "cross_attention_dim": WIDTH + WIDTH_2,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + WIDTH_2,
}
SSD1B_UNET = SDXL_UNET | {
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 5], [2, 1, 1], 1],
    "mid_block_type": "UNetMidBlock2D",
}
VEGA_UNET = SDXL_UNET | {
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 3], [2, 1, 1], 1],
    "mid_block_type": None,
}
UNETS = {
    Family.SD15: SD1_UNET,
    Family.SD21: SD2_UNET,
    Family.SDXL: SDXL_UNET,
    Family.SSD1B: SSD1B_UNET,
    Family.VEGA: VEGA_UNET,
}
XL = (Family.SDXL, Family.SSD1B, Family.VEGA)
"""Families with two text encoders."""


def pipeline(family: Family, *, native: bool = False, seed: int = 0, channels: int = 4) -> Any:
    """A pipeline of ``family`` with random weights; with a guidance embedding where ``native``. Its denoiser takes
    ``channels``, which are 4 unless it was trained for something else than prompts."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": vae(family),
        "text_encoder": CLIPTextModel(text_config("gelu" if family is Family.SD21 else "quick_gelu")),
        "tokenizer": clip_tokenizer(77, padding="!" if family is Family.SD21 else END),
        "unet": Unet(
            **UNETS[family],
            in_channels=channels,
            sample_size=8,
            time_cond_proj_dim=GUIDANCE_DIM if native else None,
        ),
        "scheduler": scheduler(family),
    }
    if family in XL:
        second = {
            "text_encoder_2": CLIPTextModelWithProjection(text_config("gelu", WIDTH_2)),
            "tokenizer_2": clip_tokenizer(77, padding="!"),
        }
        return quiet(StableDiffusionXLPipeline(**parts, **second, add_watermarker=False))
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return quiet(StableDiffusionPipeline(**parts, **nothing))


TEXT_WIDTHS = {Family.SD15: 768, Family.SD21: 1024, Family.SDXL: 2048, Family.SSD1B: 2048, Family.VEGA: 2048}


def denoiser(family: Family, *, native: bool = False, channels: int = 4) -> Unet:
    """A small denoiser that reads text as wide as the real one does: that is what tells families apart."""
    config = UNETS[family] | {"cross_attention_dim": TEXT_WIDTHS[family]}
    return Unet(**config, in_channels=channels, sample_size=8, time_cond_proj_dim=GUIDANCE_DIM if native else None)


def scheduler(family: Family) -> LCMScheduler:
    """The noise of the whole Stable Diffusion family; 2.1 predicts velocity."""
    prediction = "v_prediction" if family is Family.SD21 else "epsilon"
    return LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, prediction_type=prediction
    )


def vae(family: Family) -> AutoencoderKL:
    """Four levels, as in every member."""
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.13025 if family in XL else 0.18215,
    )


def text_config(activation: str, width: int = WIDTH) -> CLIPTextConfig:
    """CLIP's vocabulary and 77 tokens in two narrow layers."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )


# -- the original layout, in one file ----------------------------------------------------------------------------------


def save_single_file(
    pipeline: Any, path: Path, *, dtype: torch.dtype = torch.float32, marks: Sequence[str] = (), **metadata: str
) -> None:
    """Save ``pipeline`` as trainers and CivitAI do: the original names, all networks in one file.

    ``marks`` are tensors whose names alone tell something.
    """
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in original_unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{name}": tensor for name, tensor in original_vae(pipeline.vae).items()}
    encoder = {f"text_model.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= {f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in encoder.items()}
        second = open_clip(pipeline.text_encoder_2)
        tensors |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in second.items()}
    elif pipeline.text_encoder.config.hidden_act == "gelu":
        whole = with_a_last_layer(open_clip(pipeline.text_encoder))
        tensors |= {f"cond_stage_model.model.{name}": tensor for name, tensor in whole.items()}
    else:
        tensors |= {f"cond_stage_model.transformer.{name}": tensor for name, tensor in encoder.items()}
    tensors |= {mark: torch.ones(1) for mark in marks}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def original_unet(unet: Unet) -> dict[str, Tensor]:
    """The denoiser's weights under their original names."""
    return {original_unet_name(unet, name): tensor for name, tensor in unet.state_dict().items()}


def original_unet_name(unet: Unet, name: str) -> str:
    """What the original code calls the layer or weight ``name``."""
    attention = [block == "CrossAttnUpBlock2D" for block in unet.config.up_block_types]
    pairs = []
    for old, new in unet_names(len(unet.config.block_out_channels), unet.config.layers_per_block).beginnings:
        attends = new.startswith("up_blocks") and attention[int(new.split(".")[1])]
        if not new.endswith("upsamplers.0.conv") or old.endswith(".2.conv" if attends else ".1.conv"):
            pairs.append((new, old))
    inside = _turned(RESIDUAL_BLOCK) if ".resnets." in name else ()
    return _known(Names(tuple(pairs), inside).rename(name), name)


def original_vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    """The autoencoder's weights under their original names; its attention was made of convolutions."""
    levels = range(len(vae.config.block_out_channels))
    names = vae_names_of([f"decoder.up.{level}." for level in levels])
    back = Names(_turned(names.beginnings), _turned(names.inside))
    tensors = {_known(back.rename(name), name): tensor for name, tensor in vae.state_dict().items()}
    flat = ("q.weight", "k.weight", "v.weight", "proj_out.weight")
    return {
        name: tensor[:, :, None, None] if "attn_1" in name and name.endswith(flat) else tensor
        for name, tensor in tensors.items()
    }


def open_clip(encoder: CLIPTextModelWithProjection) -> dict[str, Tensor]:
    """A text encoder's weights as OpenCLIP names and joins them."""
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    back = Names(_turned(OPEN_CLIP.beginnings), _turned(OPEN_CLIP.inside))
    named = {}
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            thirds = [tensors[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
            layer, _, kind = name.partition(".self_attn.q_proj.")
            named[f"{_known(back.rename(layer), layer)}.attn.in_proj_{kind}"] = torch.cat(thirds)
        elif ".k_proj." not in name and ".v_proj." not in name:
            named[_known(back.rename(name), name)] = tensor.T if name.startswith("text_projection") else tensor
    return named


def with_a_last_layer(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """As Stable Diffusion 2 has its text encoder in one file: with a 24th layer and a projection not used."""
    first, last = "transformer.resblocks.0.", "transformer.resblocks.23."
    unused = {name.replace(first, last): tensor * 2 for name, tensor in encoder.items() if name.startswith(first)}
    return encoder | unused | {"text_projection": torch.eye(WIDTH), "logit_scale": torch.tensor(4.6)}


def in_generative_models(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Save a file of Stable Diffusion 2 under the names of Stability's later code, “generative-models”."""
    old, new = "cond_stage_model.model.", "conditioner.embedders.0.model."
    save_file({name.replace(old, new): tensor for name, tensor in tensors.items()}, path, metadata=metadata)


# -- LoRAs -------------------------------------------------------------------------------------------------------------

Changes = dict[tuple[str, str], tuple[Tensor, Tensor]]
"""Down and up factors by network and layer."""
Change = tuple[Tensor, Tensor] | Tensor
"""Up and down factors of a weight, or what is added to a whole bias or norm."""


def draw_changes(pipeline: Any, seed: int, *, text: bool = True) -> Changes:
    """Random low-rank changes over attention and convolutions, their ranks differing."""
    generator, changes = torch.Generator().manual_seed(seed), {}
    for network in ("unet", "text_encoder", "text_encoder_2")[: 3 if text else 1]:
        layers = lora_targets(getattr(pipeline, network)) if hasattr(pipeline, network) else []
        for index, (name, layer) in enumerate(layers):
            changes[network, name] = factors(layer, 2 + index % 3, generator)
    return changes


def save_kohya_lora(pipeline: Any, path: Path, changes: Changes, **metadata: str) -> None:
    """Save as kohya's trainer does, which for SDXL names the denoiser's layers as the original code does."""
    tensors = {}
    for (network, name), (down, up) in changes.items():
        stem = _kohya_name(pipeline, network, name)
        tensors |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(ALPHA),
        }
    save_file(tensors, path, metadata=metadata)


def draw_whole_changes(pipeline: Any, seed: int) -> dict[tuple[str, str], Change]:
    """Random changes of every weight and bias, by network and name."""
    generator, changes = torch.Generator().manual_seed(seed), dict[tuple[str, str], Change]()
    for network in ("unet", "text_encoder", "text_encoder_2"):
        for name, values in getattr(pipeline, network).named_parameters() if hasattr(pipeline, network) else ():
            shapes = ((len(values), 2), (2, *values.shape[1:])) if values.ndim > 1 else (values.shape,)
            drawn = [torch.randn(shape, generator=generator) * 0.2 for shape in shapes]
            changes[network, name] = (drawn[0], drawn[1]) if values.ndim > 1 else drawn[0]
    return changes


def whole_change(change: Change) -> Tensor:
    """What it adds to the weight or bias."""
    if isinstance(change, Tensor):
        return change
    up, down = change
    return (up @ down.flatten(1)).view(len(up), *down.shape[1:])


def save_comfyui_lora(pipeline: Any, path: Path, changes: dict[tuple[str, str], Change], *, whole: bool) -> None:
    """Save as ComfyUI's LoraSave does; ``whole``: of the kind “full_diff”, which has no factors.

    The first text encoder has a projection there, too, which no picture depends on.
    """
    tensors = {}
    projection: Change = (torch.zeros(WIDTH, 2), torch.ones(2, WIDTH))
    for (network, name), change in {**changes, ("text_encoder", "text_projection.weight"): projection}.items():
        layer, _, kind = name.rpartition(".")
        key = _comfyui_name(pipeline, network, layer)
        if whole or isinstance(change, Tensor):
            tensors[f"{key}.{'diff' if kind == 'weight' else 'diff_b'}"] = whole_change(change)
        else:
            tensors |= {f"{key}.lora_up.weight": change[0], f"{key}.lora_down.weight": change[1]}
    save_file(tensors, path)


def _comfyui_name(pipeline: Any, network: str, layer: str) -> str:
    if network == "unet":
        return f"diffusion_model.{original_unet_name(pipeline.unet, layer)}"
    path = layer if layer == "text_projection" else f"text_model.{layer.removeprefix('text_model.')}"
    return f"text_encoders.{'clip_g' if network == 'text_encoder_2' else 'clip_l'}.transformer.{path}"


def save_peft_lora(path: Path, changes: Changes, *, alpha: float | None = None) -> None:
    """Save as diffusers does, with peft's names; ``alpha``, where given, is worked into the factors."""
    tensors = {}
    for (network, name), (down, up) in changes.items():
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        tensors |= {f"{network}.{name}.lora_A.weight": down, f"{network}.{name}.lora_B.weight": up * scale}
    save_file(tensors, path, metadata={"format": "pt"})


def _kohya_name(pipeline: Any, network: str, name: str) -> str:
    is_xl = hasattr(pipeline, "text_encoder_2")
    if network == "unet":
        return f"lora_unet_{original_unet_name(pipeline.unet, name) if is_xl else name}".replace(".", "_")
    prefix = {"text_encoder": "lora_te1" if is_xl else "lora_te", "text_encoder_2": "lora_te2"}[network]
    return f"{prefix}_text_model_{name.removeprefix('text_model.')}".replace(".", "_")


def _turned(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((new, old) for old, new in pairs)


def _known(name: str | None, original: str) -> str:
    assert name is not None, f"{original} has no original name"
    return name
