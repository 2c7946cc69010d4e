"""Checkpoints with random weights on disk, laid out exactly like published ones, and their names in the catalogue.

Cost does not depend on the weights' values, so nothing has to be downloaded to measure it.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from benchmarks.architectures import CLIP_WORDS, Architecture
from benchmarks.random_weights import fill, level_unet, level_vae, lora_of
from inference.loading.clip_words import clip_tokenizer

LAYOUT = 2
"""Incremented when what is written here changes: older files are then written anew."""
LCM_LORA, STYLE = "pytorch_lora_weights.safetensors", "style.safetensors"
COPIED_AT_ONCE = 4
MOVED = {
    "unet/diffusion_pytorch_model.safetensors": "conv_in.weight",
    "vae/diffusion_pytorch_model.safetensors": "decoder.conv_in.weight",
    "text_encoder/model.safetensors": "embeddings.position_embedding.weight",
}
"""What is changed in each file of a copy to make it another network. (SDXL has only one checkpoint.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The files of one architecture: ``count`` checkpoints of the same shape, with one LCM-LoRA and one style.

    Each differs from the others in all of its networks, as fine-tunes do, though not in every weight: nothing that is
    measured looks closer than at a whole network. ``tiny_vae`` is TAESD's shape; ``plain_vae`` is the stock autoencoder
    declared safe for half precision (as ``sdxl-vae-fp16-fix`` is), where the stock one is not.
    """

    architecture: Architecture
    folder: Path
    count: int

    def name(self, index: int = 0) -> str:
        """The catalogue's name of checkpoint ``index``."""
        return f"{self.architecture.name}-{index}"

    @property
    def names(self) -> tuple[str, ...]:
        """The catalogue's names of all checkpoints."""
        return tuple(self.name(index) for index in range(self.count))

    @property
    def fast(self) -> str:
        """The catalogue's name of the first checkpoint with the tiny autoencoder."""
        return f"{self.architecture.name}-fast"

    @property
    def style(self) -> str:
        """The catalogue's name of the style."""
        return f"{self.architecture.name}-style"

    @property
    def tiny_vae(self) -> Path:
        return self.folder / "tiny-vae"

    @property
    def plain_vae(self) -> Path:
        return self.folder / "plain-vae"

    @property
    def lcm_lora(self) -> Path:
        return self.folder / LCM_LORA

    @property
    def style_lora(self) -> Path:
        return self.folder / STYLE

    def checkpoint(self, name: str) -> Path:
        """The diffusers folder of the model ``name``."""
        return self.folder / (self.name() if name == self.fast else name)


def write_checkpoints(architecture: Architecture, folder: Path, *, count: int, device: torch.device) -> Checkpoints:
    """Write the files that are missing; the random numbers are drawn on ``device``, where that is faster."""
    found = Checkpoints(architecture=architecture, folder=folder.resolve() / architecture.name, count=count)
    mark = found.folder / "layout.json"
    if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != LAYOUT:
        shutil.rmtree(found.folder, ignore_errors=True)
        found.folder.mkdir(parents=True)
        mark.write_text(json.dumps(LAYOUT), encoding="utf-8")
    missing = [index for index in range(count) if not (found.folder / found.name(index) / "model_index.json").exists()]
    if 0 in missing:
        _write(found, device)
    with ThreadPoolExecutor(COPIED_AT_ONCE) as copying:
        list(copying.map(partial(_copy, found), (index for index in missing if index)))
    return found


def _copy(found: Checkpoints, index: int) -> None:
    """Make checkpoint ``index`` out of the first one: drawing all of its weights takes several times as long."""
    target = found.folder / found.name(index)
    unfinished = target.with_suffix(".unfinished")
    shutil.copytree(found.folder / found.name(), unfinished, dirs_exist_ok=True)
    for file, tensor in MOVED.items():
        _move_values(unfinished / file, tensor, by=index)
    unfinished.rename(target)


def _move_values(file: Path, tensor: str, *, by: int) -> None:
    """Rotate the values of one fp16 tensor in ``file``: random values stay as random."""
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        first, end = json.loads(stream.read(length))[tensor]["data_offsets"]
        stream.seek(8 + length + first)
        values = np.frombuffer(stream.read(end - first), dtype=np.float16)
        stream.seek(8 + length + first)
        stream.write(np.roll(values, by).tobytes())


def _write(found: Checkpoints, device: torch.device) -> None:
    """Write the first checkpoint, and what all of them share."""
    shape, target = found.architecture, found.folder / found.name()
    unet = _made(UNet2DConditionModel, shape.unet, 0, device)
    level_unet(unet)
    vae = _made(AutoencoderKL, shape.vae, 1, device)
    level_vae(vae, scale=1 / vae.config.scaling_factor)
    _write_beside(found, unet, vae, device)
    parts: dict[str, Any] = {
        "unet": unet.half().cpu(),
        "vae": vae.half().cpu(),
        "scheduler": _scheduler(),
        "tokenizer": _tokenizer(shape),
        "text_encoder": _text_encoder(shape, 0, 2, device),
    }
    if shape.two_encoders:
        parts |= {"text_encoder_2": _text_encoder(shape, 1, 3, device), "tokenizer_2": _tokenizer(shape, "!")}
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**parts, **nothing)
    unfinished = target.with_suffix(".unfinished")
    pipeline.save_pretrained(unfinished)
    if "force_upcast" not in shape.vae:
        _forget(unfinished / "vae" / "config.json", "force_upcast")  # as in every file of SD 1.5
    unfinished.rename(target)


def _forget(config: Path, key: str) -> None:
    document = json.loads(config.read_text(encoding="utf-8"))
    document.pop(key, None)
    config.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_beside(found: Checkpoints, unet: Any, vae: Any, device: torch.device) -> None:
    """Write the files that all checkpoints of the architecture share."""
    shape = found.architecture
    save_file(lora_of(unet, shape.rank, 7), found.lcm_lora, metadata={"format": "pt"})
    save_file(lora_of(unet, max(1, shape.rank // 4), 8), found.style_lora, metadata={"format": "pt"})
    tiny = _made(AutoencoderTiny, shape.tiny_vae | {"latent_channels": vae.config.latent_channels}, 9, device)
    level_vae(tiny, scale=1.0)
    tiny.half().cpu().save_pretrained(found.tiny_vae)
    plain = _made(AutoencoderKL, shape.vae | {"force_upcast": False}, 1, device)
    plain.load_state_dict(vae.state_dict())
    plain.half().cpu().save_pretrained(found.plain_vae)


def _made(kind: Any, config: dict[str, Any], seed: int, device: torch.device) -> Any:
    """A network with random weights, in float32."""
    with torch.device("meta"):
        network = kind(**config)
    network.to_empty(device=device)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(1.0 if name.endswith("weight") else 0.0)  # for normalisations; the others are drawn below
    fill(network, seed)
    return network.eval().requires_grad_(False)


def _text_encoder(shape: Architecture, index: int, seed: int, device: torch.device) -> Any:
    words = shape.words
    config = CLIPTextConfig(
        **{"vocab_size": words, "max_position_embeddings": shape.length, "bos_token_id": words - 2}
        | {"eos_token_id": words - 1, "pad_token_id": words - 1}
        | shape.text[index]
    )
    with device:
        encoder = (CLIPTextModelWithProjection if index else CLIPTextModel)(config)
    fill(encoder, seed)
    return encoder.half().cpu()


def _scheduler() -> DDIMScheduler:
    """SD's noise schedule. It predicts v, because then a random network's latents keep unit scale."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def _tokenizer(shape: Architecture, padding: str = "<|endoftext|>") -> Any:
    """CLIP's own; for a smaller vocabulary, letters alone."""
    if shape.words == CLIP_WORDS:
        return clip_tokenizer(shape.length, padding)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"<unused{index}>" for index in range(shape.words - len(tokens) - 2)]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=shape.length)
