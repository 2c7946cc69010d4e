"""The catalogue: which models and LoRAs may be asked for, from ``models.toml`` and what was dropped into its folders.

Knows nothing of torch or Discord.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from inference.catalog_toml import CatalogError, Document, read_document
from inference.dropped import Dropped, Unusable
from inference.entries import AdapterEntry, Family, Kind, Limits, ModelEntry
from inference.errors import InferenceError, UnknownAdapter, UnknownModel
from inference.sources import Source

__all__ = ["AdapterEntry", "Catalog", "CatalogError", "Family", "Kind", "Limits", "ModelEntry", "Source", "Unusable"]


class Catalog:
    """The models by name, in the order of the file, and the style LoRAs beside them."""

    def __init__(self, document: Document) -> None:
        self._models = {entry.name: entry for entry in document.models}
        self._adapters = {entry.name: entry for entry in document.adapters}
        self._default = document.default
        sources = [*(source for entry in document.models for source in _own(entry))]
        sources += [entry.weights for entry in document.adapters]
        self._dropped = Dropped(
            document.folders,
            known=frozenset(source.path.resolve() for source in sources if source.path is not None),
            names=frozenset({*self._models, *self._adapters}),
        )

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read ``path``; relative paths in it start at its own folder.

        Raises:
            CatalogError: the file is missing or no TOML, a key is unknown, missing or of the wrong type, or a name
                leads nowhere. The message names the file, the entry and the key.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            catalog = cls(read_document(table, path.resolve().parent))
            catalog._check_names()
        except OSError as error:
            raise CatalogError(f"{path}: {error.strerror or error}") from error
        except (ValueError, CatalogError) as error:
            raise CatalogError(f"{path}: {error}") from error
        return catalog

    def __getitem__(self, name: str) -> ModelEntry:
        """The model of this name; raises ``InferenceError(UnknownModel)``."""
        models = self._models if name in self._models else {entry.name: entry for entry in self}
        try:
            return models[name]
        except KeyError:
            raise InferenceError(UnknownModel(name=name, known=tuple(models))) from None

    def __iter__(self) -> Iterator[ModelEntry]:
        """The entries of the file, then what was dropped into the folder of checkpoints."""
        return iter((*self._models.values(), *self._dropped.look().models))

    def __len__(self) -> int:
        return len(self._models) + len(self._dropped.look().models)

    @property
    def unusable(self) -> tuple[Unusable, ...]:
        """Dropped files that are no model or LoRA, with the reason."""
        return self._dropped.look().unusable

    @property
    def default(self) -> ModelEntry:
        """What is drawn with when nobody says."""
        return self._models[self._default]

    def adapters(self, family: Family) -> tuple[AdapterEntry, ...]:
        """The style LoRAs that fit models of this family."""
        every = (*self._adapters.values(), *self._dropped.look().adapters)
        return tuple(entry for entry in every if entry.family is family)

    def adapter(self, name: str, family: Family) -> AdapterEntry:
        """The style LoRA of this name, if it fits the family; raises ``InferenceError(UnknownAdapter)``."""
        fitting = {entry.name: entry for entry in self.adapters(family)}
        try:
            return fitting[name]
        except KeyError:
            raise InferenceError(UnknownAdapter(name=name, known=tuple(fitting))) from None

    def on_disk(self, entry: ModelEntry) -> bool:
        """Whether everything that ``entry`` needs is on this machine, style LoRAs included."""
        return not self.missing(entry.name)

    def missing(self, name: str) -> tuple[Source, ...]:
        """What the model or LoRA ``name`` is made of and is not on this machine; raises ``InferenceError``."""
        adapter = self._adapter_called(name)
        sources = (adapter.weights,) if adapter else self.sources(self[name])
        return tuple(source for source in sources if source.locate() is None)

    def is_downloadable(self, name: str) -> bool:
        """Whether something is missing of the model or LoRA ``name``, and the hub has all of that."""
        missing = self.missing(name)
        return bool(missing) and all(source.hub for source in missing)

    def title(self, name: str) -> str:
        """What people call the model or LoRA ``name``."""
        entry = self._adapter_called(name) or self[name]
        return entry.title

    def sources(self, entry: ModelEntry) -> tuple[Source, ...]:
        """All that ``entry`` is made of."""
        return (*_own(entry), *(self.adapter(style.name, entry.family).weights for style in entry.styles))

    def _adapter_called(self, name: str) -> AdapterEntry | None:
        """The style LoRA of this name, of whatever family; no model has the same."""
        if name in self._adapters or name in self._models:
            return self._adapters.get(name)
        return next((entry for entry in self._dropped.look().adapters if entry.name == name), None)

    def _check_names(self) -> None:
        if self._default not in self._models:
            raise CatalogError(f"default: there is no model “{self._default}”")
        for name in self._models.keys() & self._adapters.keys():
            raise CatalogError(f"[adapters.{name}]: a model has this name too; “pull” cannot tell them apart")
        for entry in self:
            fitting = {adapter.name for adapter in self.adapters(entry.family)}
            for style in entry.styles:
                if style.name not in fitting:
                    raise CatalogError(f"[models.{entry.name}] styles: “{style.name}” is no adapter of its family")


def _own(entry: ModelEntry) -> tuple[Source, ...]:
    """What an entry itself names."""
    named = (entry.weights, entry.unet, entry.vae, entry.lcm_lora)
    return tuple(source for source in named if source is not None)
