"""The catalogue: which models and LoRAs may be asked for, from ``models.toml``. Knows nothing of torch or Discord."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from inference.catalog_toml import CatalogError, read_catalog
from inference.entries import AdapterEntry, Checked, Family, Kind, Limits, ModelEntry, SafetyEntry
from inference.errors import CheckerMissing, InferenceError, UnknownAdapter, UnknownModel
from inference.sources import Source

__all__ = ["AdapterEntry", "Catalog", "CatalogError", "Family", "Kind", "Limits", "ModelEntry", "SafetyEntry", "Source"]

OWN_CHECKER = "safety_checker"
"""The folder of it in a diffusers pipeline."""
PULL_SAFETY = "safety"
"""By this name the command line fetches the catalogue's own classifier."""


class Catalog:
    """The models by name, in the order of the file, the style LoRAs beside them, and who checks their pictures.

    ``safety`` is the classifier for models that are neither harmless nor have a checker of their own, if there is one.
    """

    def __init__(
        self,
        *,
        models: tuple[ModelEntry, ...],
        adapters: tuple[AdapterEntry, ...],
        default: str,
        safety: SafetyEntry | None = None,
    ) -> None:
        self._models = {entry.name: entry for entry in models}
        self._adapters = {entry.name: entry for entry in adapters}
        self._default = default
        self.safety = safety

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read ``path``; relative paths in it start at its own folder.

        Raises:
            CatalogError: the file is missing or no TOML, a key is unknown, missing or of the wrong type, or a name
                leads nowhere. The message names the file, the entry and the key.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            read = read_catalog(document, path.resolve().parent)
            catalog = cls(models=read.models, adapters=read.adapters, default=read.default, safety=read.safety)
            catalog._check_names()
        except OSError as error:
            raise CatalogError(f"{path}: {error.strerror or error}") from error
        except (ValueError, CatalogError) as error:
            raise CatalogError(f"{path}: {error}") from error
        return catalog

    def __getitem__(self, name: str) -> ModelEntry:
        """The model of this name; raises ``InferenceError(UnknownModel)``."""
        try:
            return self._models[name]
        except KeyError:
            raise InferenceError(UnknownModel(name=name, known=tuple(self._models))) from None

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    @property
    def default(self) -> ModelEntry:
        """What is drawn with when nobody says."""
        return self._models[self._default]

    def adapters(self, family: Family) -> tuple[AdapterEntry, ...]:
        """The style LoRAs that fit models of this family."""
        return tuple(entry for entry in self._adapters.values() if entry.family is family)

    def adapter(self, name: str, family: Family) -> AdapterEntry:
        """The style LoRA of this name, if it fits the family; raises ``InferenceError(UnknownAdapter)``."""
        fitting = {entry.name: entry for entry in self.adapters(family)}
        try:
            return fitting[name]
        except KeyError:
            raise InferenceError(UnknownAdapter(name=name, known=tuple(fitting))) from None

    def on_disk(self, entry: ModelEntry) -> bool:
        """Whether everything that ``entry`` draws with is on this machine, style LoRAs included.

        Whether its checker is here is another matter: who waives the check needs none.
        """
        return all(source.locate() is not None for source in self._drawn_with(entry))

    def sources(self, entry: ModelEntry) -> tuple[Source, ...]:
        """All that ``entry`` is made of, and what checks its pictures."""
        checker = self.checker(entry)
        return self._drawn_with(entry) + (() if checker is None else (checker,))

    def checker(self, entry: ModelEntry) -> Source | None:
        """The folder of what checks the pictures of ``entry``; None if it is harmless, or the catalogue names none."""
        if entry.harmless:
            return None
        if entry.checked is Checked.CATALOGUE:
            return None if self.safety is None else self.safety.weights
        if entry.weights.path is not None:
            return replace(entry.weights, path=entry.weights.path / OWN_CHECKER, marker="config.json")
        return replace(entry.weights, marker=f"{OWN_CHECKER}/config.json")

    def missing_checker(self, entry: ModelEntry) -> CheckerMissing | None:
        """Why nobody can check the pictures of ``entry``; None if somebody can, or need not."""
        checker = self.checker(entry)
        if entry.harmless or (checker is not None and checker.locate() is not None):
            return None
        if checker is None:
            return CheckerMissing(model=entry.name, where=None)
        if checker.path is not None:
            return CheckerMissing(model=entry.name, where=str(checker.path))
        pull = entry.name if entry.checked is Checked.OWN else PULL_SAFETY
        return CheckerMissing(model=entry.name, where=f"{checker.hub} of the Hugging Face hub", pull=pull)

    def to_be_checked(self) -> tuple[ModelEntry, ...]:
        """The models on this machine that are not harmless."""
        return tuple(entry for entry in self if not entry.harmless and self.on_disk(entry))

    def _drawn_with(self, entry: ModelEntry) -> tuple[Source, ...]:
        own = (entry.weights, entry.unet, entry.vae, entry.lcm_lora)
        styles = (self.adapter(style.name, entry.family).weights for style in entry.styles)
        return (*(source for source in own if source is not None), *styles)

    def _check_names(self) -> None:
        if self._default not in self._models:
            raise CatalogError(f"default: there is no model “{self._default}”")
        for entry in self:
            fitting = {adapter.name for adapter in self.adapters(entry.family)}
            for style in entry.styles:
                if style.name not in fitting:
                    raise CatalogError(f"[models.{entry.name}] styles: “{style.name}” is no adapter of its family")
