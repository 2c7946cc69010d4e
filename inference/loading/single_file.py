"""A checkpoint in one file: the original (LDM) layout that CivitAI and trainers use, or one network by itself.

No configuration is fetched: the architecture is inferred from the weights' shapes, the rest is the same per family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from inference.catalog.entries import Prediction
from inference.catalog.header import Header, read_header
from inference.catalog.recognise import SD2_UNSAID, prediction_beside, prediction_said
from inference.catalog.undrawable import other_noise
from inference.loading.clip_words import END, clip_tokenizer
from inference.loading.fingerprint import FileHashes, combine
from inference.loading.folder import TEXT_STAGES
from inference.loading.ldm import OPEN_CLIP, PROJECTION, VAE_OF_2022, Names, unet_names_of, vae_names_of
from inference.loading.schedule import schedule_of
from inference.loading.shapes import text_config, unet_config, vae_config
from inference.loading.unsupported import UnsupportedError
from inference.memory.construction import ONE_AT_A_TIME
from inference.schedule import Schedule

Weights = dict[str, Tensor]
"""By the weights' names in diffusers or transformers."""

NOISE_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
"""What every model of the Stable Diffusion family was trained with."""

LAST_OF_OPEN_CLIP = ("encoder.layers.23.", "text_projection.")
"""The weights of its text encoder, OpenCLIP's ViT-H, that Stable Diffusion 2 does not use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Where a network is in a file: its names start with ``prefix``, and one of them is ``prefix`` and ``mark``.

    ``names`` translates the rest of the original names into the libraries'; None if they are equal. ``without_last``:
    the model was trained on the encoder's penultimate layer, and the last one, if it is there, is not read.
    """

    part: str
    prefix: str
    mark: str
    names: Callable[[list[str]], Names] | None = None
    open_clip: bool = False
    without_last: bool = False


KEPT = (torch.float16, torch.bfloat16, torch.float32)
"""Precisions that weights are kept in; nothing can be computed with others, such as those of 8 bits."""
SECTIONS = (
    Section(part="unet", prefix="model.diffusion_model.", mark="input_blocks.0.0.weight", names=unet_names_of),
    Section(part="unet", prefix="", mark="input_blocks.0.0.weight", names=unet_names_of),
    Section(part="unet", prefix="", mark="down_blocks.0.resnets.0.conv1.weight"),
    Section(part="vae", prefix="first_stage_model.", mark="decoder.conv_in.weight", names=vae_names_of),
    Section(part="vae", prefix="", mark="decoder.up.0.block.0.conv1.weight", names=vae_names_of),
    Section(part="vae", prefix="", mark="decoder.up_blocks.0.resnets.0.conv1.weight", names=lambda _: VAE_OF_2022),
    Section(
        part="text_encoder",
        prefix="cond_stage_model.transformer.text_model.",
        mark="embeddings.token_embedding.weight",
    ),
    Section(
        part="text_encoder",
        prefix="cond_stage_model.transformer.",
        mark="embeddings.token_embedding.weight",
    ),
    Section(
        part="text_encoder",
        prefix="conditioner.embedders.0.transformer.text_model.",
        mark="embeddings.token_embedding.weight",
    ),
    Section(
        part="text_encoder",
        prefix="cond_stage_model.model.",
        mark="token_embedding.weight",
        names=lambda _: OPEN_CLIP,
        open_clip=True,
        without_last=True,
    ),
    Section(
        part="text_encoder",
        prefix="conditioner.embedders.0.model.",
        mark="token_embedding.weight",
        names=lambda _: OPEN_CLIP,
        open_clip=True,
        without_last=True,
    ),
    Section(
        part="text_encoder_2",
        prefix="conditioner.embedders.1.model.",
        mark="token_embedding.weight",
        names=lambda _: OPEN_CLIP,
        open_clip=True,
    ),
)
"""Every network that a single file may hold, under each of its naming schemes; a new layout is one more row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFile:
    """One .safetensors file. ``sdxl`` decides what no shape shows, such as the scale of latents.

    ``prediction``: the prediction type according to the catalogue, if it gives one.
    """

    path: Path
    header: Header
    sections: Mapping[str, Section]
    sdxl: bool
    prediction: Prediction | None = None

    @classmethod
    def open(cls, path: Path) -> SingleFile:
        """Read the header and find the networks in it; raises ``ValueError`` or ``OSError`` if it is damaged."""
        header = read_header(path)
        sections: dict[str, Section] = {}
        for section in SECTIONS:
            if section.prefix + section.mark in header.shapes:
                sections.setdefault(section.part, section)
        if not sections:
            raise UnsupportedError("there is no Stable Diffusion network in it")
        reason = other_noise(header.shapes)
        if reason is not None:
            raise UnsupportedError(reason)
        sdxl = any(name.endswith(("label_emb.0.0.weight", "add_embedding.linear_1.weight")) for name in header.shapes)
        return cls(path=path, header=header, sections=sections, sdxl=sdxl)

    def predicting(self, prediction: Prediction | None) -> SingleFile:
        """The same file as a whole model; raises ``UnsupportedError`` if its prediction type is not known."""
        file = replace(self, prediction=prediction)
        if file._prediction is None and self._text.without_last:
            raise UnsupportedError(SD2_UNSAID)
        return file

    @property
    def text_stages(self) -> tuple[tuple[str, str], ...]:
        """Names of tokenizer and text encoder: one pair for SD 1.5, two for SDXL."""
        return TEXT_STAGES if self.sdxl else TEXT_STAGES[:1]

    @property
    def zero_empty_negative(self) -> bool:
        """SDXL was trained with zeros for an empty prompt."""
        return self.sdxl

    def tokenizer(self, name: str) -> Any:
        """CLIP's tokenizer; OpenCLIP's encoders were trained on prompts padded with “!”."""
        open_clip = name == "tokenizer_2" or self._text.open_clip
        return clip_tokenizer(self._positions, padding="!" if open_clip else END)

    def schedule(self) -> Schedule:
        """The family's noise schedule; files whose own ends in pure noise (arXiv 2305.08891) contain a mark."""
        prediction = self._prediction or Prediction.EPSILON
        to_pure_noise = prediction is Prediction.VELOCITY and "ztsnr" in self.header.shapes
        return schedule_of(
            LCMScheduler(**NOISE_SCHEDULE, prediction_type=str(prediction), rescale_betas_zero_snr=to_pure_noise)
        )

    def digest(self, part: str, hashes: FileHashes) -> str:
        """SHA-256 (hex) of the file for every part; for the scheduler, also of a prediction type said elsewhere."""
        whole, said = hashes(self.path), self._prediction_elsewhere if part == "scheduler" else None
        return combine((whole, f"prediction {said}")) if said else whole

    def parameter_count(self, part: str) -> int:
        """Number of parameters of ``part``; for a file with a single network, of everything in it."""
        section = self.sections.get(part)
        return 0 if section is None else self.header.parameter_count(section.prefix)

    def network(self, part: str) -> torch.nn.Module:
        """The network ``part`` on the CPU with every weight from the file, in its precision."""
        section = self.sections.get(part)
        if section is None:
            raise UnsupportedError(f"there is no {part} in it, only {' and '.join(self.sections)}")
        weights = self._read(section)
        with ONE_AT_A_TIME, init_empty_weights():
            network = _built(section, weights, sdxl=self.sdxl)
        return filled(network, weights, part)

    @property
    def _prediction(self) -> Prediction | None:
        return self._prediction_elsewhere or prediction_said(self.header)

    @property
    def _prediction_elsewhere(self) -> Prediction | None:
        """The prediction type by the catalogue, or by a configuration beside the file, which may change at any time."""
        return self.prediction or prediction_beside(self.path)

    @property
    def _text(self) -> Section:
        if "text_encoder" not in self.sections:
            raise UnsupportedError(f"there is no text_encoder in it, only {' and '.join(self.sections)}")
        return self.sections["text_encoder"]

    @property
    def _positions(self) -> int:
        name = "positional_embedding" if self._text.open_clip else "embeddings.position_embedding.weight"
        return self.header.shapes[self._text.prefix + name][0]

    def _read(self, section: Section) -> Weights:
        inside = [name for name in self.header.shapes if name.startswith(section.prefix)]
        shorter = {name: name.removeprefix(section.prefix) for name in inside}
        names = section.names(list(shorter.values())) if section.names else None
        weights = {}
        with safe_open(self.path, framework="pt") as file:
            for name, short in shorter.items():
                translated = names.rename(short) if names else short
                if translated is not None:
                    tensor = file.get_tensor(name)
                    if tensor.dtype not in KEPT:
                        tensor = tensor.float()
                    weights[translated] = tensor.T.contiguous() if short == PROJECTION else tensor
        if section.without_last:
            weights = _without_last(weights)
        return _open_clip_apart(weights) if section.open_clip else weights


def _without_last(weights: Weights) -> Weights:
    """A text encoder without its 24th layer and the projection, which applies only to that layer's output. Files made
    from a diffusers folder have neither."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(LAST_OF_OPEN_CLIP)}


def _open_clip_apart(weights: Weights) -> Weights:
    """Split query, key and value, which OpenCLIP keeps in one matrix."""
    apart = {}
    for name, tensor in weights.items():
        layer, joined, kind = name.partition(".in_proj_")
        if joined:
            apart.update(
                {f"{layer}.{letter}_proj.{kind}": third for letter, third in zip("qkv", tensor.chunk(3), strict=True)}
            )
        else:
            apart[name] = tensor
    return apart


def _built(section: Section, weights: Weights, *, sdxl: bool) -> torch.nn.Module:
    """An empty network of the architecture that ``weights`` have; these are renamed or reshaped in place to fit it."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    network: torch.nn.Module
    match section.part:
        case "unet":
            network = UNet2DConditionModel(**unet_config(shapes))
        case "vae":
            network = AutoencoderKL(**vae_config(shapes, sdxl=sdxl))
            for name, tensor in weights.items():
                if ".attentions.0.to_" in name and tensor.ndim == 4:  # a convolution in old files
                    weights[name] = tensor.flatten(1)
        case "text_encoder":
            network = CLIPTextModel(CLIPTextConfig(**text_config(shapes, open_clip=section.open_clip)))
        case _:
            network = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(shapes, open_clip=section.open_clip)))
            for name in [name for name in weights if not name.startswith("text_projection")]:
                weights[f"text_model.{name}"] = weights.pop(name)
    return network


NOT_LEARNT = ("position_ids", "logit_scale")
"""Tensors in some files that no network has or needs."""


def filled(network: torch.nn.Module, weights: Weights, part: str) -> torch.nn.Module:
    """``network`` with exactly these weights; raises ``UnsupportedError`` if one is missing, unknown or misshapen."""
    learnt = {name: tensor for name, tensor in weights.items() if not name.endswith(NOT_LEARNT)}
    own = network.state_dict()
    for complaint, names in (("lacks", own.keys() - learnt.keys()), ("has an unknown", learnt.keys() - own.keys())):
        if names:
            raise UnsupportedError(f"its {part} {complaint} {min(names)}")
    for name, tensor in learnt.items():
        if tensor.shape != own[name].shape:
            raise UnsupportedError(f"{name} of its {part} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
    network.load_state_dict(learnt, assign=True)
    return network.eval().requires_grad_(False)
