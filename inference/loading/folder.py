"""A diffusers folder: ``model_index.json`` names the classes of its parts, each in a subfolder of the same name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import LCMScheduler, ModelMixin
from transformers import CLIPTokenizer

from inference.catalog.entries import Prediction
from inference.catalog.header import Header, read_header
from inference.catalog.parts import classes_named, is_weight_file
from inference.catalog.sources import PIPELINE_INDEX
from inference.catalog.undrawable import other_scheduler
from inference.loading.fingerprint import FileHashes, combine
from inference.loading.schedule import schedule_of
from inference.loading.unsupported import UnsupportedError
from inference.memory.construction import ONE_AT_A_TIME
from inference.memory.layout import CLASSES
from inference.schedule import Schedule

PARTS = {"unet": ("UNet2DConditionModel",), "vae": ("AutoencoderKL", "AutoencoderTiny")}
"""Classes that may replace a part of a pipeline."""

ADAPTER = "adapter_config.json"
"""Marks an adapter, which transformers would load on top of a network, from files that nobody has checked."""
HALF = {"F16": torch.float16, "BF16": torch.bfloat16}
WHOLE = ("I", "U", "BOOL")
"""How the names of other types than floating-point numbers begin."""
TEXT_STAGES = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
"""Names of tokenizers and text encoders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFolder:
    """A pipeline on disk. ``classes`` are the class names of its parts; ``prediction`` is the prediction type that the
    catalogue gives with another denoiser."""

    path: Path
    variant: str | None
    classes: dict[str, str]
    zero_empty_negative: bool
    prediction: Prediction | None = None

    @classmethod
    def open(cls, path: Path, variant: str | None) -> PipelineFolder:
        """Read the index; raises ``OSError`` or ``ValueError`` if it is damaged or names an unsupported scheduler."""
        text = (path / PIPELINE_INDEX).read_bytes()
        parts, index = classes_named(text), json.loads(text)
        _check_noise(parts.get("scheduler", ""))
        return cls(
            path=path,
            variant=variant,
            classes=parts,
            zero_empty_negative=index.get("force_zeros_for_empty_prompt", True) is True and "text_encoder_2" in parts,
        )

    @property
    def text_stages(self) -> tuple[tuple[str, str], ...]:
        """Names of tokenizer and text encoder: one pair for SD 1.5, two for SDXL."""
        return tuple(pair for pair in TEXT_STAGES if pair[1] in self.classes)

    def tokenizer(self, name: str) -> Any:
        """The tokenizer in the folder ``name``."""
        if not (self.path / name).is_dir():
            raise UnsupportedError(f"there is no folder “{name}”")
        return CLIPTokenizer.from_pretrained(self.path / name, local_files_only=True)

    def network(self, name: str) -> torch.nn.Module:
        """The part ``name`` on the CPU, in the precision of its files."""
        kind = self.classes.get(name, "nothing")
        if kind not in CLASSES:
            raise UnsupportedError(f"{name} is {kind}, which is not supported")
        return load_network(CLASSES[kind], self.path / name, self.variant)

    def parameter_count(self, name: str) -> int:
        """Number of parameters of ``name``, from headers alone; raises ``ValueError`` or ``OSError``."""
        return _numbers(self.path / name, self.variant)

    def schedule(self) -> Schedule:
        """The noise schedule in the folder ``scheduler``, whichever scheduler wrote it."""
        config: Any = LCMScheduler.load_config(self.path / "scheduler")
        _check_noise(str(config.get("_class_name")))
        other = {"prediction_type": str(self.prediction)} if self.prediction else {}
        return schedule_of(LCMScheduler.from_config(config, **other))

    def digest(self, part: str, hashes: FileHashes) -> str:
        """SHA-256 (hex) over the files of ``part``; for the scheduler, also of the catalogue's prediction type."""
        files = hashes.of_folder(self.path / part, None if part == "scheduler" else self.variant)
        said = self.prediction if part == "scheduler" else None
        return combine((files, f"prediction {said}")) if said else files


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFolder:
    """One network on disk, with its own ``config.json``."""

    path: Path
    variant: str | None

    def network(self, part: str) -> torch.nn.Module:
        """The network on the CPU, in the files' precision; raises ``UnsupportedError`` if it cannot be ``part``."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        kind = config.get("_class_name") if isinstance(config, dict) else None
        if kind not in PARTS[part]:
            raise UnsupportedError(f"{kind or 'something'} is no {part} that is supported")
        return load_network(CLASSES[kind], self.path, self.variant)

    def parameter_count(self, part: str) -> int:
        """Number of parameters, from headers alone; raises ``ValueError`` or ``OSError``."""
        return _numbers(self.path, self.variant)

    def digest(self, part: str, hashes: FileHashes) -> str:
        """SHA-256 (hex) over the files."""
        return hashes.of_folder(self.path, self.variant)


def load_network(
    kind: Any, folder: Path, variant: str | None, *, precision: torch.dtype | None = None, **options: Any
) -> torch.nn.Module:
    """Load a network on the CPU, in evaluation mode, with every weight from the files.

    ``precision``: None keeps that of the files for diffusers' networks, which are the large ones; others are read in
    float32. ``options`` go to the library's ``from_pretrained``.

    Raises:
        UnsupportedError: there are only pickles or some in the index, there is an adapter beside the weights, or these
            are missing or of another shape.
    """
    if (folder / ADAPTER).exists():
        raise UnsupportedError(f"there is an adapter ({ADAPTER}) in “{folder.name}”, and only whole networks are read")
    files = _weights(folder, variant)
    if not files:
        others = ", ".join(path.name for path in sorted(folder.glob("*.*")) if path.suffix != ".json") or "nothing"
        ending = f".{variant}.safetensors" if variant else ".safetensors"
        raise UnsupportedError(
            f"“{folder.name}” has no model{ending} or diffusion_pytorch_model{ending}, the only kind read here; "
            f"it has: {others}"
        )
    headers = [read_header(path) for path in files]
    _check_index(kind, folder, variant, {path.name for path in files})
    with ONE_AT_A_TIME, _quietly(), _with_the_default_precision():
        network, report = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            dtype=precision or (_precision_of(headers) if issubclass(kind, ModelMixin) else torch.float32),
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    for problem in ("missing_keys", "mismatched_keys"):
        if report.get(problem):
            first = min(map(str, report[problem]))
            raise UnsupportedError(f"{folder.name} has {problem.replace('_', ' ')}, such as {first}")
    loaded: torch.nn.Module = network
    return loaded.eval().requires_grad_(False)


def _weights(folder: Path, variant: str | None) -> list[Path]:
    return [path for path in folder.glob("*.safetensors") if is_weight_file(path, variant)]


def _precision_of(headers: Iterable[Header]) -> torch.dtype:
    """Half precision if all numbers in the files are of the same one, or else float32, which holds both."""
    present = {precision for header in headers for precision in header.precisions if not precision.startswith(WHOLE)}
    return HALF[present.pop()] if len(present) == 1 and present <= HALF.keys() else torch.float32


def _numbers(folder: Path, variant: str | None) -> int:
    return sum(read_header(path).parameter_count() for path in _weights(folder, variant))


def _check_index(kind: Any, folder: Path, variant: str | None, files: set[str]) -> None:
    """Raise ``UnsupportedError`` if a network's index, which the libraries follow, lists anything but ``files``."""
    indexes = sorted(folder.glob(f"*.safetensors.index.{variant}.json" if variant else "*.safetensors.index.json"))
    if indexes and not issubclass(kind, ModelMixin) and _takes_whole_file(folder, variant, files):
        return
    for index in indexes:
        listed = json.loads(index.read_bytes())["weight_map"].values()
        strangers = {str(name) for name in listed} - files
        if strangers:
            raise UnsupportedError(
                f"{index.name} names {min(strangers)}, which is not a .safetensors file of this network"
            )


def _takes_whole_file(folder: Path, variant: str | None, files: set[str]) -> bool:
    """Whether transformers ignores the index: it loads a whole file if there is one and the configuration names none.

    diffusers follows the index.
    """
    whole = f"model.{variant}.safetensors" if variant else "model.safetensors"
    config = json.loads((folder / "config.json").read_bytes())
    return whole in files and config.get("transformers_weights") is None


def _check_noise(scheduler: str) -> None:
    reason = other_scheduler(scheduler)
    if reason is not None:
        raise UnsupportedError(reason)


@contextmanager
def _with_the_default_precision() -> Iterator[None]:
    """While diffusers builds a network, it makes its precision the default of the whole process; other threads, which
    draw meanwhile, would compute in it."""
    set_default = torch.set_default_dtype
    torch.set_default_dtype = lambda precision: None
    try:
        yield
    finally:
        torch.set_default_dtype = set_default


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the libraries' progress bars and reports: what matters in them is raised."""
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
