"""Where weights lie: a path on this machine, or the local cache of the Hugging Face hub. Nothing is downloaded here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

PIPELINE_INDEX = "model_index.json"
"""Marks a diffusers folder."""
FILE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Files that are recognised, to be refused."""
PICKLE_REFUSED = f"“{{ending}}” files can run programs when opened; convert it to {FILE}, the only kind read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Weights named in the catalogue: exactly one of ``path`` (absolute) and ``hub`` (``owner/name``) is set.

    ``revision`` is a branch, tag or commit of the hub repository; ``variant`` picks files like ``….fp16.safetensors``.
    ``marker`` is the file by which weights are known to be here: ``model_index.json`` of a whole pipeline,
    ``config.json`` of a single network, the file itself of a LoRA or a checkpoint in one file.
    """

    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    variant: str | None = None
    marker: str = PIPELINE_INDEX

    def locate(self) -> Path | None:
        """The folder (of a pipeline or network) or file (of a LoRA or checkpoint) on this machine; None if not here."""
        if self.path is not None:
            return self.path if self._is_here(self.path) else None
        assert self.hub is not None
        cached = try_to_load_from_cache(self.hub, self.marker, revision=self.revision)
        if not isinstance(cached, str):
            return None
        return Path(cached) if self.is_one_file else Path(cached).parent

    @property
    def whereabouts(self) -> str:
        """Where the weights should be, and for those of the hub how to bring them there."""
        if self.path is not None:
            return str(self.path)
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"{self.hub} of the Hugging Face hub; “hf download {self.hub}{revision}” fetches it"

    @property
    def is_one_file(self) -> bool:
        """Whether a file is meant, and not a folder."""
        name = self.path.name if self.path is not None else self.marker
        return self.marker.endswith(FILE) or name.endswith((FILE, *PICKLES))

    def _is_here(self, path: Path) -> bool:
        return path.is_file() if self.is_one_file else (path / self.marker).is_file()
