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
"""Names of the weight files that diffusers and transformers read, without suffix and variant."""
HALF = "fp16"
"""The half-precision variant, which people keep instead of the full one."""
SPLIT = re.compile(r"-\d{5}-of-(\d{5})")
"""The end of a shard's name: the number of files that the weights are split into."""


def is_weight_file(path: PurePath, variant: str | None) -> bool:
    """Whether ``path`` is one of the weight files of this variant: ``model.fp16.safetensors`` for ``fp16``.

    Files with other names beside them belong to other programs.
    """
    before, infix, after = path.stem.partition(f".{variant}") if variant else (path.stem, "", "")
    is_of_variant = bool(infix) is bool(variant) and WEIGHTS.fullmatch(before + after) is not None
    return path.suffix == ".safetensors" and is_of_variant


def parts_named(index: str | bytes) -> tuple[str, ...]:
    """The parts that a ``model_index.json`` with this text names, of those that are read; raises ``ValueError``."""
    present = classes_named(index)
    return tuple(name for name in (*SETTINGS, *NETWORKS) if name in present)


def classes_named(index: str | bytes) -> dict[str, str]:
    """The class of each part that a ``model_index.json`` with this text names; raises ``ValueError``."""
    table = json_table(index, "model_index.json")
    parts = {name: part for name, part in table.items() if isinstance(part, list) and len(part) == 2}
    return {name: str(part[1]) for name, part in parts.items() if part[1]}


def json_table(text: str | bytes, name: str) -> dict[str, Any]:
    """The contents of a configuration; raises ``ValueError``, with its ``name``, if the text is not a JSON object."""
    try:
        table = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    if not isinstance(table, dict):
        raise ValueError(f"{name} is no table")
    return table


def weights_in(folder: PurePath, files: Iterable[AnyPath], variant: str | None) -> list[AnyPath]:
    """Those of ``files`` that are weights of this variant directly in ``folder``."""
    return [path for path in files if path.parent == folder and is_weight_file(path, variant)]


def are_whole(weights: Iterable[PurePath]) -> bool:
    """Whether there are weights, and no shard is missing of those that are split."""
    files = Counter(int(found[1]) if (found := SPLIT.search(path.stem)) else 1 for path in weights)
    return bool(files) and all(there >= needed for needed, there in files.items())


def texts_in(folder: PurePath, files: Iterable[AnyPath]) -> list[AnyPath]:
    """Those of ``files`` that are configurations and vocabularies directly in ``folder``."""
    return [path for path in files if path.parent == folder and path.suffix in TEXTS]
