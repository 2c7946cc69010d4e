"""Which files of a diffusers folder are read: the parts that ``model_index.json`` names, and their weights. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, TypeVar

AnyPath = TypeVar("AnyPath", bound=PurePath)

TEXTS = (".json", ".txt")
"""Configurations and vocabularies."""
SETTINGS = ("scheduler", "tokenizer", "tokenizer_2")
NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
"""The parts with weights. Others, such as safety checkers, are never read."""
WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(?:-\d{5}-of-\d{5})?")
"""What diffusers and transformers call the weights that they read, without ending and variant."""
HALF = "fp16"
"""The variant that people keep instead of the whole."""
SPLIT = re.compile(r"-\d{5}-of-(\d{5})")
"""In the name of one of several files that the weights are split over."""


def is_weight_file(path: PurePath, variant: str | None) -> bool:
    """Whether ``path`` is one of the weight files of this variant: ``model.fp16.safetensors`` for ``fp16``.

    Files of other names beside them are other programs'.
    """
    before, infix, after = path.stem.partition(f".{variant}") if variant else (path.stem, "", "")
    is_of_variant = bool(infix) is bool(variant) and WEIGHTS.fullmatch(before + after) is not None
    return path.suffix == ".safetensors" and is_of_variant


def parts_named(index: str | bytes) -> tuple[str, ...]:
    """The parts that a ``model_index.json`` of this text names, of those that are read; raises ``ValueError``."""
    present = classes_named(index)
    return tuple(name for name in (*SETTINGS, *NETWORKS) if name in present)


def classes_named(index: str | bytes) -> dict[str, str]:
    """The class of each part that a ``model_index.json`` of this text names; raises ``ValueError``."""
    table = json_table(index, "model_index.json")
    parts = {name: part for name, part in table.items() if isinstance(part, list) and len(part) == 2}
    return {name: str(part[1]) for name, part in parts.items() if part[1]}


def json_table(text: str | bytes, name: str) -> dict[str, Any]:
    """What a configuration of this text holds; raises ``ValueError``, which calls it ``name``, if that is no table."""
    try:
        table = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    if not isinstance(table, dict):
        raise ValueError(f"{name} is no table")
    return table


def weights_in(folder: PurePath, files: Iterable[AnyPath], variant: str | None) -> list[AnyPath]:
    """Of ``files``, the weights of this variant that lie in ``folder`` itself."""
    return [path for path in files if path.parent == folder and is_weight_file(path, variant)]


def are_whole(weights: Iterable[PurePath]) -> bool:
    """Whether there are weights, and all of those that are split over several files."""
    files = Counter(int(found[1]) if (found := SPLIT.search(path.stem)) else 1 for path in weights)
    return bool(files) and all(there >= needed for needed, there in files.items())


def texts_in(folder: PurePath, files: Iterable[AnyPath]) -> list[AnyPath]:
    """Of ``files``, the configurations and vocabularies that lie in ``folder`` itself."""
    return [path for path in files if path.parent == folder and path.suffix in TEXTS]
