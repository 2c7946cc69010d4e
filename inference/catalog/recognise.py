"""What a safetensors file is and which models it fits, from its header alone, so that every refusal can say why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from inference.catalog.entries import Family, Prediction
from inference.catalog.header import Header, read_header
from inference.catalog.lora_family import CONTEXT_WIDTHS, lora_family
from inference.catalog.lora_names import WHOLE_DIFFERENCES, foreign_name
from inference.catalog.parts import HALF, classes_named, json_table, weights_in
from inference.catalog.sources import PIPELINE_INDEX
from inference.catalog.undrawable import lacking, other_inputs, other_noise, other_scheduler


class What(StrEnum):
    """Kinds of files, as worded in a sentence."""

    CHECKPOINT = "a whole checkpoint"
    LORA = "a LoRA"
    UNET = "a denoiser by itself"
    VAE = "an autoencoder by itself"
    OTHER = "a file of another program"


FAMILY_TITLES = {
    Family.EMOJI: "the built-in model",
    Family.SD15: "Stable Diffusion 1.5",
    Family.SD21: "Stable Diffusion 2.1",
    Family.SDXL: "Stable Diffusion XL",
    Family.SSD1B: "SSD-1B",
    Family.VEGA: "Segmind-Vega",
}

_UNET, _FIRST, _SECOND = "model.diffusion_model.", "conditioner.embedders.0.", "conditioner.embedders.1."
CHECKPOINTS: tuple[tuple[Family, tuple[str, ...], tuple[str, ...]], ...] = (
    (Family.SD15, ("cond_stage_model.transformer.",), ()),
    (Family.SD21, ("cond_stage_model.model.",), ()),
    (Family.SD21, (f"{_FIRST}model.",), (f"{_UNET}label_emb.",)),
    (Family.SDXL, (_SECOND, f"{_UNET}middle_block.1."), ()),
    (Family.SSD1B, (_SECOND, f"{_UNET}input_blocks.7.1.transformer_blocks.3."), (f"{_UNET}middle_block.1.",)),
    (Family.VEGA, (_SECOND, _UNET), (f"{_UNET}middle_block.1.",)),
)
"""Families of single-file checkpoints, the first match wins: prefixes of names that must exist, and that must not."""

SD2_UNSAID = (
    "this Stable Diffusion 2 file does not state its prediction type: name it in the catalogue with "
    "prediction = “v_prediction” (trained for 768 pixels) or “epsilon” (512), or use its diffusers folder"
)
SAYS_VELOCITY = "v_pred"
"""The tensor by which an SDXL-like file declares v-prediction."""
PREDICTIONS = {
    "epsilon": Prediction.EPSILON,
    "v": Prediction.VELOCITY,
    "v_prediction": Prediction.VELOCITY,
}
"""By the names in the metadata."""
PREDICTION_KEYS = ("modelspec.prediction_type", "modelspec.predict_key")
"""Where the metadata has them: the ModelSpec's key, which kohya's trainer writes, and ComfyUI's."""
CONFIG_SAYS_VELOCITY = re.compile(rb"""^[ \t]*parameterization:[ \t]*["']?v\b""", re.MULTILINE)
"""The line by which a configuration of Stable Diffusion's original code declares v-prediction."""
LARGEST_CONFIG = 64 * 2**10
"""Bytes that are read of it; real ones have two thousand."""
DENOISER_CONFIG = Path("unet", "config.json")
"""The file in a diffusers folder that tells the family."""
_FULL_MIDDLE = "UNetMidBlock2DCrossAttn"
LATENT_CHANNELS = 4
"""Input and output channels of a denoiser whose configuration does not state them."""

ALGORITHMS = {
    "hada_w": "a LoHa",
    "lokr_w": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "oft_": "an OFT adapter",
    "on_input": "an IA³ adapter",
    "lora_mid": "a LoCon with a Tucker decomposition",
    ".a1.": "a GLoRA",
    "emb_params": "a textual inversion embedding",
    "string_to_param": "a textual inversion embedding",
    "bundle_emb": "a LoRA bundled with embeddings",
    "input_hint_block": "a ControlNet",
    "controlnet_cond_embedding": "a ControlNet",
    "double_blocks": "made for Flux",
    "single_transformer_blocks": "made for Flux",
    "joint_blocks": "made for Stable Diffusion 3",
    "lora_transformer_": "made for a transformer model such as Flux or Stable Diffusion 3",
}
"""Parts of names that identify files that are no LoRA for these models."""
SDXL_EMBEDDING = {"clip_l", "clip_g"}
"""All that is in a textual inversion embedding for SDXL: a tensor for each text encoder."""

TRIGGERS = 8
"""How many of the training's most frequent words are shown."""
LARGEST_NOTE = 4 * 2**20
"""Characters. Longer entries of the metadata are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file is. ``native`` marks a checkpoint distilled as a whole, with its guidance built in; ``undrawable``
    says why a checkpoint of a known family, or a LoRA, cannot be used; ``prediction`` is the prediction type that a
    file itself declares; ``variant`` is that of the weights in a folder that has no others."""

    what: What
    undrawable: str | None = None
    algorithm: str | None = None
    family: Family | None = None
    native: bool = False
    prediction: Prediction | None = None
    variant: str | None = None
    title: str = ""
    triggers: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What it is, for the middle of a sentence."""
        kind = self.algorithm or self.what.value
        return f"{kind} for {FAMILY_TITLES[self.family]}" if self.family and not self.algorithm else kind


def read_info(path: Path) -> FileInfo:
    """What the file at ``path`` is; raises ``HeaderError`` or ``OSError``."""
    info = recognise(read_header(path))
    return replace(info, prediction=prediction_beside(path) or info.prediction)


def read_folder_info(path: Path) -> FileInfo:
    """What the diffusers folder at ``path`` is, by its index and its denoiser's configuration.

    Raises:
        ValueError, OSError: they are damaged or missing.
    """
    classes = classes_named((path / PIPELINE_INDEX).read_bytes())
    config = json_table((path / DENOISER_CONFIG).read_bytes(), DENOISER_CONFIG.as_posix())
    width = config.get("cross_attention_dim")
    family = CONTEXT_WIDTHS.get(width) if isinstance(width, int) else None
    if family is Family.SDXL and config.get("mid_block_type", _FULL_MIDDLE) != _FULL_MIDDLE:
        depths = config.get("transformer_layers_per_block")
        family = Family.SSD1B if isinstance(depths, list) and depths[-1:] == [[4, 4]] else Family.VEGA
    inputs, outputs = (config.get(name, LATENT_CHANNELS) for name in ("in_channels", "out_channels"))
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        raise ValueError("unet/config.json counts no channels")
    return FileInfo(
        what=What.CHECKPOINT,
        undrawable=other_inputs(inputs, outputs) or other_scheduler(classes.get("scheduler", "")),
        family=family,
        native=bool(config.get("time_cond_proj_dim")),
        variant=_variant(path / DENOISER_CONFIG.parent),
    )


def _variant(folder: Path) -> str | None:
    """``fp16`` if a network's weights exist in half precision only."""
    files = [*folder.iterdir()]
    return HALF if weights_in(folder, files, HALF) and not weights_in(folder, files, None) else None


def recognise(header: Header) -> FileInfo:
    """What a file with this header is."""
    what = _what(header)
    family, undrawable = None, None
    if what is What.CHECKPOINT:
        family, undrawable = _checkpoint_family(header), _undrawable(header)
    elif what is What.LORA:
        family, undrawable = lora_family(header), _unreadable(header)
    return FileInfo(
        what=what,
        undrawable=undrawable,
        algorithm=None if what is What.CHECKPOINT else _algorithm(header),
        family=family,
        native=any("cond_proj" in name for name in header.shapes),
        prediction=prediction_said(header),
        title=_title(header.metadata),
        triggers=trigger_words(header.metadata),
    )


def prediction_said(header: Header) -> Prediction | None:
    """The prediction type that a file declares; None if it declares none."""
    if SAYS_VELOCITY in header.shapes:
        return Prediction.VELOCITY
    said = (PREDICTIONS.get(header.metadata.get(key, "")) for key in PREDICTION_KEYS)
    return next(filter(None, said), None)


def config_beside(path: Path) -> Path:
    """Where AUTOMATIC1111's web UI looks for the configuration of the single file at ``path``."""
    return path.with_suffix(".yaml")


def prediction_beside(path: Path) -> Prediction | None:
    """The prediction type that the configuration beside a single file declares; None if it declares none."""
    with suppress(OSError):
        if config_beside(path).is_file():
            with config_beside(path).open("rb") as file:
                return Prediction.VELOCITY if CONFIG_SAYS_VELOCITY.search(file.read(LARGEST_CONFIG)) else None
    return None


def _undrawable(header: Header) -> str | None:
    first, last = (header.shapes.get(f"{_UNET}{name}.weight", ()) for name in ("input_blocks.0.0", "out.2"))
    if len(first) < 2 or not last:
        return other_noise(header.shapes)
    return other_inputs(first[1], last[0]) or other_noise(header.shapes) or lacking(header.shapes)


def _unreadable(header: Header) -> str | None:
    """Why a LoRA cannot be read; None if it can."""
    name = foreign_name(header.shapes)
    return None if name is None else f"a LoRA for another kind of model, or in another form: it has “{name[:100]}”"


def _algorithm(header: Header) -> str | None:
    if not SDXL_EMBEDDING.isdisjoint(header.shapes):
        return "a textual inversion embedding"
    return next((words for part, words in ALGORITHMS.items() if any(part in name for name in header.shapes)), None)


def _what(header: Header) -> What:
    if any(name.endswith(WHOLE_DIFFERENCES) for name in header.shapes):
        return What.LORA
    marks = {
        What.LORA: ("lora", "hada_w", "lokr_w", "dora_scale", "oft_"),
        What.CHECKPOINT: (_UNET,),
        What.VAE: ("decoder.conv_in.", "decoder.layers.0."),
        What.UNET: ("input_blocks.0.0.", "down_blocks.0.resnets."),
    }
    for what, parts in marks.items():
        if any(part in name for name in header.shapes for part in parts):
            return what
    return What.OTHER


def _checkpoint_family(header: Header) -> Family | None:
    for family, there, missing in CHECKPOINTS:
        if all(header.has(name) for name in there) and not any(header.has(name) for name in missing):
            return family
    return None


def _title(metadata: Mapping[str, str]) -> str:
    """The author's title, as written by the ModelSpec and by kohya's trainer; empty if there is none."""
    said = (" ".join(metadata.get(key, "").split()) for key in ("modelspec.title", "ss_output_name"))
    return next(filter(None, said), "")


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """A LoRA's trigger words: its author's own, else the most frequent ones in the captions it was trained on.

    As written by kohya's trainer (``ss_tag_frequency``: a table of counts by folder) and by the ModelSpec.
    """
    said = metadata.get("modelspec.trigger_phrase", "").strip()
    if said:
        return (said,)
    counts: Counter[str] = Counter()
    for folder in _notes(metadata.get("ss_tag_frequency", "")).values():
        for word, count in (folder if isinstance(folder, dict) else {}).items():
            if isinstance(count, int) and isinstance(word, str):
                counts[word.strip()] += count
    return tuple(word for word, _ in counts.most_common(TRIGGERS) if word)


def _notes(text: str) -> dict[str, object]:
    if len(text) > LARGEST_NOTE:
        return {}
    try:
        notes = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}
