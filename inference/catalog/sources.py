"""Where weights are stored: a path on this machine, or the Hugging Face hub's local cache (see ``hub.downloads``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from inference.catalog.parts import NETWORKS, are_whole, parts_named, weights_in

PIPELINE_INDEX = "model_index.json"
"""Marks a diffusers folder."""
NETWORK_CONFIG = "config.json"
"""Marks the folder of a single network."""
FILE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Files that are recognised only to be refused."""
PICKLE_REFUSED = f"“{{ending}}” files can run arbitrary code when opened; convert it to {FILE}, the only kind read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Weights named in the catalogue: exactly one of ``path`` (absolute) and ``hub`` (``owner/name``) is set.

    ``revision`` is a branch, tag or commit of the hub repository; ``variant`` picks files like ``….fp16.safetensors``.
    ``marker`` is the file whose presence shows that weights are here: ``model_index.json`` of a whole pipeline,
    ``config.json`` of a single network, the file itself of a LoRA or a single-file checkpoint. ``without`` are parts of
    a pipeline that come from elsewhere: they need not be here. ``beside`` are folders of the repository whose
    configurations are needed too.
    """

    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    variant: str | None = None
    marker: str = PIPELINE_INDEX
    without: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def locate(self) -> Path | None:
        """The folder (of a pipeline or network) or file (of a LoRA or checkpoint) on this machine; None if not here."""
        if self.path is not None:
            return self.path if self._is_here(self.path) else None
        assert self.hub is not None
        cached = try_to_load_from_cache(self.hub, self.marker, revision=self.revision)
        if not isinstance(cached, str):
            return None
        if self.is_one_file:
            return Path(cached)
        return Path(cached).parent if self._is_whole(Path(cached)) else None

    def whereabouts(self, name: str) -> str:
        """Where the weights of the model or LoRA ``name`` should be and, if they are on the hub, how to get them."""
        if self.path is not None:
            return str(self.path)
        return f"{self.hub} on the Hugging Face hub; “python -m inference pull {name}” fetches it"

    @property
    def is_one_file(self) -> bool:
        """Whether this is a single file, not a folder."""
        name = self.path.name if self.path is not None else self.marker
        return self.marker.endswith(FILE) or name.endswith((FILE, *PICKLES))

    def _is_here(self, path: Path) -> bool:
        return path.is_file() if self.is_one_file else (path / self.marker).is_file()

    @property
    def is_pipeline(self) -> bool:
        """Whether this is a whole diffusers pipeline."""
        return Path(self.marker).name == PIPELINE_INDEX

    def _is_whole(self, marker: Path) -> bool:
        """Whether every network that is needed has its weights. Two models may need different parts or variants of one
        repository, and other programs fetch single files."""
        folders = [marker.parent]
        if self.is_pipeline:
            try:
                named = parts_named(marker.read_bytes())
            except (OSError, ValueError):
                return True  # damaged: loading reports it
            folders = [marker.parent / part for part in named if part in NETWORKS and part not in self.without]
        return all(are_whole(weights_in(folder, folder.glob("*"), self.variant)) for folder in folders)
