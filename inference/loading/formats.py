"""The table of formats: what may lie at a path of the catalogue, and what opens it. A new format is one more row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

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
        """In float32 on the CPU; raises ``ValueError``, ``OSError``, … for files that cannot be used."""

    def numbers(self, part: str) -> int:
        """About how many numbers its weights are, by headers alone; raises ``ValueError`` or ``OSError``."""

    def digest(self, part: str, hashes: FileHashes) -> str:
        """SHA-256 (hex) by which changed weights are noticed."""


class Pipeline(Networks, Protocol):
    """A whole model on disk."""

    @property
    def text_stages(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def zero_empty_negative(self) -> bool: ...

    def tokenizer(self, name: str) -> Any: ...

    def schedule(self) -> Schedule: ...


Opened = TypeVar("Opened", bound=Networks, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Generic[Opened]):
    """A way of keeping weights: which paths look like it, and what reads them (path and variant)."""

    fits: Callable[[Path], bool]
    open: Callable[[Path, str | None], Opened]


def _is_safetensors(path: Path) -> bool:
    return path.suffix == FILE


def _refuse_pickle(path: Path, variant: str | None) -> SingleFile:
    raise UnsupportedError(PICKLE_REFUSED.format(ending=path.suffix))


_PICKLE = Format(fits=lambda path: path.suffix in PICKLES, open=_refuse_pickle)


def pipelines_for(prediction: Prediction | None) -> tuple[Format[Pipeline], ...]:
    """Formats of whole models; ``prediction`` is what the catalogue says of one in a single file."""

    def open_file(path: Path, variant: str | None) -> Pipeline:
        return SingleFile.open(path, variant).predicting(prediction)

    return (
        _PICKLE,
        Format(fits=_is_safetensors, open=open_file),
        Format(fits=Path.is_dir, open=PipelineFolder.open),
    )


def parts_for(pipeline: Pipeline) -> tuple[Format[Networks], ...]:
    """Formats of networks that replace a part of ``pipeline``, which tells a single file what no shape in it does."""
    sdxl = len(pipeline.text_stages) == 2

    def open_file(path: Path, variant: str | None) -> Networks:
        return replace(SingleFile.open(path, variant), sdxl=sdxl)

    return (
        _PICKLE,
        Format(fits=_is_safetensors, open=open_file),
        Format(fits=Path.is_dir, open=NetworkFolder.open),
    )


def open_with(formats: tuple[Format[Opened], ...], path: Path, variant: str | None) -> Opened:
    """What lies at ``path``, opened by the first format that it looks like."""
    for form in formats:
        if form.fits(path):
            return form.open(path, variant)
    raise UnsupportedError(f"neither a folder nor a {FILE} file")
