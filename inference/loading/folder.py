"""A diffusers folder: ``model_index.json`` names the classes of its parts, each in a folder of its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from inference.loading.fingerprint import is_weight_file
from inference.sampler import Schedule

NETWORKS: dict[str, Any] = {
    "UNet2DConditionModel": UNet2DConditionModel,
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
}
"""The classes that a pipeline's parts may have; nothing else is ever instantiated, whatever the files ask for."""

TEXT_STAGES = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


class UnsupportedError(ValueError):
    """Readable files of something that cannot be drawn with; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFolder:
    """A pipeline on disk. ``classes`` are the class names of its parts."""

    path: Path
    variant: str | None
    classes: dict[str, str]
    zero_empty_negative: bool

    @classmethod
    def open(cls, path: Path, variant: str | None) -> PipelineFolder:
        """Read the index; raises ``OSError`` or ``ValueError`` where that is damaged."""
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        if not isinstance(index, dict):
            raise UnsupportedError("model_index.json is no table of parts")
        parts = {name: part[1] for name, part in index.items() if isinstance(part, list) and len(part) == 2 and part[1]}
        return cls(
            path=path,
            variant=variant,
            classes=parts,
            zero_empty_negative=index.get("force_zeros_for_empty_prompt", True) is True and "text_encoder_2" in parts,
        )

    @property
    def text_stages(self) -> tuple[tuple[str, str], ...]:
        """Names of tokenizer and text encoder: one pair in SD 1.5's shape, two in SDXL's."""
        return tuple(pair for pair in TEXT_STAGES if pair[1] in self.classes)

    def tokenizer(self, name: str) -> Any:
        """The tokenizer in the folder ``name``."""
        if not (self.path / name).is_dir():
            raise UnsupportedError(f"there is no folder “{name}”")
        return CLIPTokenizer.from_pretrained(self.path / name, local_files_only=True)

    def network(self, name: str) -> torch.nn.Module:
        """The part ``name`` in float32 on the CPU."""
        kind = self.classes.get(name, "nothing")
        if kind not in NETWORKS:
            raise UnsupportedError(f"{name} is {kind}, which is not supported")
        return load_network(NETWORKS[kind], self.path / name, self.variant)

    def schedule(self) -> Schedule:
        """The noise schedule of the folder ``scheduler``, whichever scheduler wrote it."""
        scheduler = LCMScheduler.from_config(LCMScheduler.load_config(self.path / "scheduler"))
        config = scheduler.config
        if config.thresholding:
            raise UnsupportedError("dynamic thresholding is not meant for latent diffusion")
        return Schedule(
            alphas=tuple(scheduler.alphas_cumprod.tolist()),
            prediction=config.prediction_type,
            original_steps=config.original_inference_steps,
            timestep_scaling=config.timestep_scaling,
            clip=config.clip_sample_range if config.clip_sample else None,
        )


def load_network(kind: Any, folder: Path, variant: str | None) -> torch.nn.Module:
    """A network in float32 on the CPU, in evaluation mode, every weight of it from the files.

    Raises:
        UnsupportedError: only pickles are there, or weights are missing, of another shape, or not finite.
    """
    if not any(is_weight_file(path, variant) for path in folder.glob("*.safetensors")):
        others = ", ".join(path.name for path in sorted(folder.glob("*.*")) if path.suffix != ".json") or "nothing"
        raise UnsupportedError(
            f"no {variant or 'plain'} .safetensors in “{folder.name}”, the only kind read here: {others}"
        )
    with _quietly():
        network, report = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    for problem in ("missing_keys", "mismatched_keys"):
        if report.get(problem):
            first = min(map(str, report[problem]))
            raise UnsupportedError(f"{folder.name} has {problem.replace('_', ' ')}, such as {first}")
    loaded: torch.nn.Module = network
    return loaded.eval().requires_grad_(False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' bars and reports: what matters of them is raised."""
    libraries = (transformers.utils.logging, diffusers.utils.logging)
    before = [library.get_verbosity() for library in libraries]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for library in libraries:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
        if bars:
            transformers.utils.logging.enable_progress_bar()
