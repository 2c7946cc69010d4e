"""The formats that a path in the catalogue may have, and what opens them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from inference.catalog.entries import Prediction
from inference.catalog.sources import FILE, PICKLE_REFUSED, PICKLES
from inference.loading.fingerprint import FileHashes
from inference.loading.folder import NetworkFolder, PipelineFolder
from inference.loading.single_file import SingleFile
from inference.loading.unsupported import UnsupportedError
from inference.schedule import Schedule


class Networks(Protocol):
    """Weights on disk, by part: ``unet``, ``vae``, ``text_encoder``, ``text_encoder_2``."""

    @property
    def path(self) -> Path: ...

    def network(self, part: str) -> torch.nn.Module:
        """The network on the CPU; raises ``ValueError``, ``OSError``, … for files that cannot be used."""

    def parameter_count(self, part: str) -> int:
        """Approximate number of parameters, from headers alone; raises ``ValueError`` or ``OSError``."""

    def digest(self, part: str, hashes: FileHashes) -> str:
        """SHA-256 (hex) that changes with the weights."""


class Pipeline(Networks, Protocol):
    """A whole model on disk."""

    @property
    def text_stages(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def zero_empty_negative(self) -> bool: ...

    def tokenizer(self, name: str) -> Any: ...

    def schedule(self) -> Schedule: ...


def open_pipeline(path: Path, variant: str | None, *, prediction: Prediction | None) -> Pipeline:
    """The whole model at ``path``; ``prediction`` is the prediction type that the catalogue gives it, if any.

    Raises ``UnsupportedError`` for pickles and anything else unsupported, ``ValueError`` or ``OSError`` for damage.
    """
    if _is_file(path):
        return SingleFile.open(path).predicting(prediction)
    return replace(PipelineFolder.open(path, variant), prediction=prediction)


def open_part(path: Path, variant: str | None, *, sdxl: bool) -> Networks:
    """The network at ``path`` that replaces a part of a model; ``sdxl`` tells a single file what its shapes do not.

    Raises as ``open_pipeline`` does.
    """
    if _is_file(path):
        return replace(SingleFile.open(path), sdxl=sdxl)
    return NetworkFolder(path=path, variant=variant)


def _is_file(path: Path) -> bool:
    """Whether it is a single file rather than a folder."""
    if path.suffix in PICKLES:
        raise UnsupportedError(PICKLE_REFUSED.format(ending=path.suffix))
    if path.suffix != FILE and not path.is_dir():
        raise UnsupportedError(f"neither a folder nor a {FILE} file")
    return path.suffix == FILE
