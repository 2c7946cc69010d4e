"""Tiny checkpoints with random weights, in exactly the files that real ones come in, made on the spot in a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SIDE = 64
"""Pixels; 8 × 8 latents."""
LENGTH = 16
"""Tokens that the text encoders read."""
WIDTH = 32
"""Channels of a text embedding."""

CATALOG = """
default = "tiny"

[models.tiny]
title = "Tiny"
family = "emoji"
kind = "native"
weights = { path = "tiny-lcm" }
size = [64, 64]
sides = [32, 128]
harmless = true
licence = "MIT"
description = "A native LCM with random weights."
examples = ["a red apple"]

[models.tiny-lora]
family = "emoji"
kind = "lora"
weights = { path = "tiny" }
lcm_lora = { path = "tiny-lcm-lora/pytorch_lora_weights.safetensors" }
size = [64, 64]
sides = [32, 128]
harmless = true

[models.tiny-flat]
family = "emoji"
kind = "native"
weights = { path = "tiny-lcm" }
styles = { flat = 1.0 }
size = [64, 64]
sides = [32, 128]
harmless = true

[models.tiny-xl]
family = "sdxl"
kind = "native"
weights = { path = "tiny-xl" }
unet = { path = "tiny-xl-lcm-unet" }
size = [64, 64]
sides = [32, 128]
harmless = true

[models.tiny-xl-merged]
family = "sdxl"
kind = "merged"
weights = { path = "tiny-xl" }
size = [64, 64]
sides = [32, 128]
harmless = true

[models.absent]
family = "emoji"
kind = "native"
weights = { path = "nowhere" }
size = [64, 64]
sides = [32, 128]
harmless = true

[adapters.flat]
family = "emoji"
weights = { path = "loras/flat.safetensors" }

[adapters.noto]
family = "emoji"
weights = { path = "loras/noto.safetensors" }
"""


@dataclass(frozen=True)
class TinyModels:
    """A models folder: every checkpoint of ``CATALOG`` that is meant to exist, and the catalogue itself."""

    folder: Path

    @property
    def catalog(self) -> Path:
        return self.folder / "models.toml"

    @property
    def base(self) -> Path:
        return self.folder / "tiny"

    @property
    def native(self) -> Path:
        return self.folder / "tiny-lcm"

    @property
    def xl(self) -> Path:
        return self.folder / "tiny-xl"

    @property
    def xl_unet(self) -> Path:
        return self.folder / "tiny-xl-lcm-unet"

    @property
    def lcm_lora(self) -> Path:
        return self.folder / "tiny-lcm-lora" / "pytorch_lora_weights.safetensors"

    @property
    def kohya(self) -> Path:
        return self.folder / "loras" / "flat.safetensors"

    @property
    def diffusers_style(self) -> Path:
        return self.folder / "loras" / "noto.safetensors"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """The tiny checkpoints, made once for all tests, which must leave them as they are."""
    return build_tiny_models(tmp_path_factory.mktemp("models"))


def build_tiny_models(folder: Path) -> TinyModels:
    """Make every tiny checkpoint in ``folder``, together with a catalogue that names them."""
    models = TinyModels(folder)
    folder.mkdir(parents=True, exist_ok=True)
    models.catalog.write_text(CATALOG, encoding="utf-8")
    base = sd15()
    base.save_pretrained(models.base)
    sd15(time_cond_proj_dim=24).save_pretrained(models.native)
    sdxl().save_pretrained(models.xl)
    unet(sdxl=True, time_cond_proj_dim=24).save_pretrained(models.xl_unet)
    save_lora_diffusers(base, models.lcm_lora, rank=4, text=False)
    save_lora_kohya(base, models.kohya, rank=2, alpha=1.0)
    save_lora_diffusers(base, models.diffusers_style, rank=3, text=True)
    return models


def sd15(
    *, time_cond_proj_dim: int | None = None, prediction_type: str = "epsilon", seed: int = 0
) -> StableDiffusionPipeline | LatentConsistencyModelPipeline:
    """A pipeline in the shape of Stable Diffusion 1.5; native LCM where ``time_cond_proj_dim`` is given."""
    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline if time_cond_proj_dim is None else LatentConsistencyModelPipeline
    return quiet(
        pipeline(
            vae=vae(),
            text_encoder=CLIPTextModel(text_config()),
            tokenizer=tokenizer(),
            unet=unet(time_cond_proj_dim=time_cond_proj_dim),
            scheduler=LCMScheduler(prediction_type=prediction_type, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def sdxl(*, seed: int = 0) -> StableDiffusionXLPipeline:
    """A pipeline in the shape of SDXL: two text encoders, a pooled embedding and the size as conditions."""
    torch.manual_seed(seed)
    return quiet(
        StableDiffusionXLPipeline(
            vae=vae(),
            text_encoder=CLIPTextModel(text_config()),
            text_encoder_2=CLIPTextModelWithProjection(text_config()),
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            unet=unet(sdxl=True),
            scheduler=LCMScheduler(steps_offset=1),
            add_watermarker=False,
        )
    )


def quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """The pipeline without its progress bar."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unet(*, sdxl: bool = False, time_cond_proj_dim: int | None = None) -> UNet2DConditionModel:
    """Two levels, attention in the lower one."""
    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(
        sample_size=SIDE // 8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=2 * WIDTH if sdxl else WIDTH,
        time_cond_proj_dim=time_cond_proj_dim,
        **(extra if sdxl else {}),
    )


def vae() -> AutoencoderKL:
    """Four levels, so that 8 pixels make a latent."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
    )


def tiny_vae() -> AutoencoderTiny:
    """In the shape of TAESD, as wide as a thread."""
    torch.manual_seed(0)
    widths, blocks = (8,) * 4, (1,) * 4
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    )


def text_config() -> CLIPTextConfig:
    """Two layers over the tokens of ``tokenizer``."""
    size = len(tokenizer())
    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with letters only: every byte as it is and as the end of a word."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH)


def save_lora_diffusers(pipeline: StableDiffusionPipeline, path: Path, *, rank: int, text: bool, seed: int = 1) -> None:
    """A LoRA as diffusers saves it (``unet.<module>.lora_A.weight``), over attention, convolutions and time."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for component, module in [("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder)][: 2 if text else 1]:
        for name, layer in lora_targets(module):
            down, up = factors(layer, rank, generator)
            tensors[f"{component}.{name}.lora_A.weight"] = down
            tensors[f"{component}.{name}.lora_B.weight"] = up
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})


def save_lora_kohya(pipeline: StableDiffusionPipeline, path: Path, *, rank: int, alpha: float, seed: int = 2) -> None:
    """A LoRA as kohya's trainer saves it (``lora_unet_<module>.lora_down.weight``, ``alpha``), ranks differing."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for prefix, module in (("lora_unet", pipeline.unet), ("lora_te", pipeline.text_encoder)):
        for index, (name, layer) in enumerate(lora_targets(module)):
            stem = f"{prefix}_{name}" if prefix == "lora_unet" else f"{prefix}_text_model_{name}"
            key = stem.replace(".", "_")
            down, up = factors(layer, rank + index % 2, generator)
            tensors[f"{key}.lora_down.weight"] = down
            tensors[f"{key}.lora_up.weight"] = up
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def lora_targets(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The layers that LCM-LoRAs train: attention, feed-forward, projections, and in residual blocks convolutions."""
    wanted = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "q_proj", "v_proj", "fc1")
    return [(name, layer) for name, layer in module.named_modules() if name.endswith(wanted)]


def factors(layer: torch.nn.Module, rank: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random down and up factors that fit a linear layer or a convolution, large enough to be seen."""
    weight: torch.Tensor = layer.weight
    down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.2
    up = torch.randn(weight.shape[0], rank, *(1 for _ in weight.shape[2:]), generator=generator) * 0.2
    return down, up
