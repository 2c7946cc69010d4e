"""The catalogue: which models and LoRAs can be requested, from ``models.toml`` and the files dropped into its folders.

Knows nothing of torch or Discord.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from inference.catalog.dropped import Dropped, Unusable, plain_name, slug, stem_of
from inference.catalog.entries import AdapterEntry, Checked, Family, ModelEntry
from inference.catalog.sources import Source
from inference.catalog.table import CatalogError
from inference.catalog.toml import Document, read_document
from inference.errors import CheckerMissing, InferenceError, UnknownAdapter, UnknownModel

Entry = TypeVar("Entry", ModelEntry, AdapterEntry)
OWN_CHECKER, ITS_SETTINGS = "safety_checker", "feature_extractor"
"""The checker's folders in a diffusers pipeline."""
CLASSIFIER = "safety"
"""The command line's name for the classifier that checks all models' pictures."""


class Catalog:
    """The models by name, in the order of the file, their style LoRAs, and what checks and previews their pictures.

    ``safety`` is the classifier for models that are neither harmless nor have a checker of their own, if there is one.
    ``previews`` are the tiny autoencoders, by family, that decode pictures between two steps.
    """

    def __init__(self, document: Document) -> None:
        self._models = {entry.name: entry for entry in document.models}
        self._adapters = {entry.name: entry for entry in document.adapters}
        self._default = document.default
        self.safety = document.safety
        self.previews = document.previews
        sources = [*(source for entry in document.models for source in _own(entry))]
        sources += [*(entry.weights for entry in document.adapters), *document.folders.lcm_loras.values()]
        self._dropped = Dropped(
            document.folders,
            known=frozenset(source.path.resolve() for source in sources if source.path is not None),
            names=frozenset({*self._models, *self._adapters, CLASSIFIER}),
        )

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read ``path``; relative paths in it are relative to its own folder.

        Raises:
            CatalogError: the file is missing or not TOML, a key is unknown, missing or of the wrong type, or a name
                refers to nothing. The message names the file, the entry and the key.
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
        entry = self.get(name)
        if entry is None:
            raise InferenceError(UnknownModel(name=name, known=tuple(entry.name for entry in self)))
        return entry

    def get(self, name: str) -> ModelEntry | None:
        """The model of this name, if there is one."""
        entry = self._models.get(name) or self._dropped.named(name)
        return entry if isinstance(entry, ModelEntry) else None

    def title_or_name(self, name: str) -> str:
        """The title of the model ``name``; the name itself if it has left the catalogue."""
        entry = self.get(name)
        return name if entry is None else entry.title

    def find(self, typed: str) -> ModelEntry:
        """The model whose name or title was typed, ignoring case; raises ``InferenceError(UnknownModel)``."""
        return self.get(typed) or _meant(typed, self) or self[typed]

    def find_adapter(self, typed: str, family: Family) -> AdapterEntry:
        """The same for a style LoRA that fits the family; raises ``InferenceError(UnknownAdapter)``."""
        return _meant(typed, self.adapters(family)) or self.adapter(typed, family)

    def name_meant(self, typed: str) -> str:
        """The same for any model, any LoRA and the classifier; returns the name that ``missing`` takes. Raises
        ``InferenceError(UnknownModel)``."""
        if typed == CLASSIFIER and self.safety is not None:
            return CLASSIFIER
        entry = self._adapter_called(typed) or self.get(typed) or _meant(typed, self) or _meant(typed, self._styles())
        return self[typed].name if entry is None else entry.name

    def of_file(self, stem: str) -> ModelEntry | None:
        """The model of this name, or else the first whose name or file has the same plain name: other programs call a
        model by its file. A stem with letters that a plain name cannot hold must match a name exactly, because without
        these letters different files would look the same.
        """
        models = {entry.name: entry for entry in self}
        name = plain_name(stem)
        if stem in models or not name:
            return models.get(stem)
        return next((entry for entry in models.values() if name in _plain_names(entry)), None)

    def __iter__(self) -> Iterator[ModelEntry]:
        """The entries of the file, then those dropped into the folder of checkpoints."""
        return iter((*self._models.values(), *self._dropped.look().models))

    def __len__(self) -> int:
        return len(self._models) + len(self._dropped.look().models)

    @property
    def unusable(self) -> tuple[Unusable, ...]:
        """Dropped files that are neither a model nor a LoRA, with the reason."""
        return self._dropped.look().unusable

    @property
    def default(self) -> ModelEntry:
        """The model to draw with if none is named."""
        return self._models[self._default]

    def adapters(self, family: Family) -> tuple[AdapterEntry, ...]:
        """The style LoRAs that fit models of this family."""
        return tuple(entry for entry in self._styles() if entry.family is family)

    def adapter(self, name: str, family: Family) -> AdapterEntry:
        """The style LoRA of this name, if it fits the family; raises ``InferenceError(UnknownAdapter)``."""
        entry = self._adapter_called(name)
        if entry is None or entry.family is not family:
            known = tuple(entry.name for entry in self.adapters(family))
            raise InferenceError(UnknownAdapter(name=name, known=known))
        return entry

    def on_disk(self, entry: ModelEntry) -> bool:
        """Whether everything that ``entry`` needs for drawing is on this machine, style LoRAs included.

        Its checker does not count: if the check is turned off, none is needed.
        """
        return not self._missing_of(entry)

    def missing(self, name: str, *, checked: bool = True) -> tuple[Source, ...]:
        """The sources of the model or LoRA ``name`` that are not on this machine; raises ``InferenceError``.

        A model's checker is one of them if its pictures are to be ``checked``.
        """
        return tuple(source for source in self._called(name, checked) if source.locate() is None)

    def is_downloadable(self, entry: ModelEntry) -> bool:
        """Whether ``entry`` lacks anything that it needs for drawing, and all of that is on the hub."""
        missing = self._missing_of(entry)
        return bool(missing) and all(source.hub for source in missing)

    def title(self, name: str) -> str:
        """The title of the model or LoRA ``name``."""
        entry = self._adapter_called(name) or self[name]
        return entry.title

    def sources(self, entry: ModelEntry) -> tuple[Source, ...]:
        """All weights that ``entry`` needs for drawing."""
        return (*_own(entry), *(self.adapter(style.name, entry.family).weights for style in entry.styles))

    def checker(self, entry: ModelEntry) -> Source | None:
        """The folder of the checker for ``entry``; None if it is harmless, or the catalogue names no checker."""
        if entry.harmless:
            return None
        if entry.checked is Checked.CATALOGUE:
            return None if self.safety is None else self.safety.weights
        if entry.weights.path is not None:
            return replace(entry.weights, path=entry.weights.path / OWN_CHECKER, marker="config.json")
        return replace(entry.weights, marker=f"{OWN_CHECKER}/config.json", beside=(ITS_SETTINGS,))

    def preview(self, entry: ModelEntry) -> Source | None:
        """The tiny autoencoder that decodes previews of ``entry``, if there is one."""
        return self.previews.get(entry.family)

    def missing_preview(self, name: str) -> Source | None:
        """The same for the model ``name``, if it is not on this machine. Drawing does not need it."""
        entry = self.get(name)
        source = None if entry is None else self.preview(entry)
        return None if source is None or source.locate() is not None else source

    def missing_checker(self, entry: ModelEntry) -> CheckerMissing | None:
        """Why the pictures of ``entry`` cannot be checked; None if they can, or need not be."""
        checker = self.checker(entry)
        if entry.harmless or (checker is not None and checker.locate() is not None):
            return None
        if checker is None:
            return CheckerMissing(model=entry.name, where=None)
        if checker.path is not None:
            return CheckerMissing(model=entry.name, where=str(checker.path))
        pull = entry.name if entry.checked is Checked.OWN else CLASSIFIER
        return CheckerMissing(model=entry.name, where=f"{checker.hub} on the Hugging Face hub", pull=pull)

    def to_be_checked(self) -> tuple[ModelEntry, ...]:
        """The models on this machine that are not harmless."""
        return tuple(entry for entry in self if not entry.harmless and self.on_disk(entry))

    def _styles(self) -> tuple[AdapterEntry, ...]:
        """The style LoRAs of all families."""
        return (*self._adapters.values(), *self._dropped.look().adapters)

    def _missing_of(self, entry: ModelEntry) -> tuple[Source, ...]:
        """Avoids scanning the folders of dropped files: people are shown hundreds of models at a keystroke."""
        return tuple(source for source in self.sources(entry) if source.locate() is None)

    def _called(self, name: str, checked: bool) -> tuple[Source, ...]:
        adapter = self._adapter_called(name)
        if adapter is not None:
            return (adapter.weights,)
        if name == CLASSIFIER and self.safety is not None:
            return (self.safety.weights,)
        entry = self[name]
        checker = self.checker(entry) if checked else None
        return self.sources(entry) + (() if checker is None else (checker,))

    def _adapter_called(self, name: str) -> AdapterEntry | None:
        """The style LoRA of this name, of any family; no model has the same name."""
        entry = self._models.get(name) or self._adapters.get(name) or self._dropped.named(name)
        return entry if isinstance(entry, AdapterEntry) else None

    def _check_names(self) -> None:
        if self._default not in self._models:
            raise CatalogError(f"default: there is no model “{self._default}”")
        for name in self._models.keys() & self._adapters.keys():
            raise CatalogError(f"[adapters.{name}]: a model has this name too; “pull” cannot tell them apart")
        if CLASSIFIER in {*self._models, *self._adapters}:
            raise CatalogError(f"no model or LoRA may be called “{CLASSIFIER}”: “pull” uses it for the classifier")
        for entry in self:
            for style in entry.styles:
                adapter = self._adapter_called(style.name)
                if adapter is None or adapter.family is not entry.family:
                    raise CatalogError(f"[models.{entry.name}] styles: “{style.name}” is no adapter of its family")


def _meant(typed: str, entries: Iterable[Entry]) -> Entry | None:
    """The entry of this name, or else the first of this title, ignoring case."""
    wanted, entries = " ".join(typed.split()).casefold(), list(entries)
    named = (entry for entry in entries if entry.name.casefold() == wanted)
    titled = (entry for entry in entries if entry.title.casefold() == wanted)
    return next(chain(named, titled), None)


def _plain_names(entry: ModelEntry) -> tuple[str, ...]:
    """The names under which other programs' files may mean this model: the plain ones of itself and of its file."""
    path = entry.weights.path
    return (slug(entry.name), *(() if path is None else (plain_name(stem_of(path)),)))


def _own(entry: ModelEntry) -> tuple[Source, ...]:
    """The sources that an entry itself names."""
    named = (entry.weights, entry.unet, entry.vae, entry.lcm_lora)
    return tuple(source for source in named if source is not None)
