"""Reading a catalogue entry: its networks with what LoRAs add to them, and its manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry, Prediction
from inference.catalog.recognise import FAMILY_TITLES, read_info
from inference.catalog.sources import Source
from inference.catalog.undrawable import other_inputs
from inference.contract import Adapter
from inference.devices import is_out_of_memory
from inference.errors import AdapterUnfit, InferenceError, WeightsMissing, WeightsUnreadable
from inference.loading.damage import MALFORMED, check_finite, reason_of
from inference.loading.fingerprint import FileHashes, FileStamps, combine
from inference.loading.formats import Networks, Pipeline, open_part, open_pipeline
from inference.loading.lora import UnfitError, merge_lora, read_lora
from inference.loading.unsupported import UnsupportedError
from inference.memory.model import Manifest
from inference.memory.network import ReadNetwork
from inference.memory.part import Label
from inference.schedule import Schedule

Opened = TypeVar("Opened", bound=Networks)


@dataclass(frozen=True, slots=True)
class _Lora:
    name: str
    path: Path
    strength: float


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of one model, as they were found: ``parts`` by name, most of them from the ``pipeline`` itself;
    ``places`` of all sources; and their ``stamp``, which changes whenever a file is replaced, None if one is missing.
    """

    entry: ModelEntry
    pipeline: Pipeline
    parts: dict[str, Networks]
    loras: tuple[_Lora, ...]
    places: Mapping[Source, Path]
    hashes: FileHashes
    stamp: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp", self._stamp())

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) over every file and strength that the weights are made from."""
        return self._key(self.hashes)

    @property
    def key_at_hand(self) -> str | None:
        """``key``; None if that means reading large files, or one cannot be read, which loading will report."""
        with contextlib.suppress(LookupError, OSError):
            vars(self).setdefault("key", self._key(self.hashes.at_hand()))
        return vars(self).get("key")

    @property
    def is_current(self) -> bool:
        """Whether none of them was replaced since they were found; True if some are gone. Reads no contents."""
        moved = any(source.locate() not in (path, None) for source, path in self.places.items())
        return not moved and self._stamp() in (self.stamp, None)

    def _stamp(self) -> str | None:
        with contextlib.suppress(OSError):
            return self._key(FileStamps())
        return None

    def _key(self, hashes: FileHashes) -> str:
        names = [*(name for stage in self.pipeline.text_stages for name in stage), "vae", "unet"]
        lines = [
            *(f"{name} {self.parts.get(name, self.pipeline).digest(name, hashes)}" for name in names),
            f"scheduler {self.pipeline.digest('scheduler', hashes)}",
            *(f"lora {hashes(lora.path)} {lora.strength!r}" for lora in self.loras),
        ]
        return combine(lines)

    @property
    def parameter_count(self) -> int:
        """Approximate number of parameters, from headers alone; 0 for unusable files, which loading will report."""
        with contextlib.suppress(OSError, ValueError):
            return sum(where.parameter_count(part) for part, where in self.parts.items())
        return 0

    def networks(self, on_part: Callable[[], None]) -> dict[str, ReadNetwork]:
        """The networks by part, with what LoRAs add to them; ``on_part`` is called before each network and each LoRA is
        read, and may raise. The files are hashed at the same time.

        Raises:
            InferenceError: with WeightsUnreadable or AdapterUnfit.
        """
        _ = self._small_parts  # what is wrong with them is found before anything large is read
        with ThreadPoolExecutor(1, "files-hasher") as hasher:
            hasher.submit(lambda: self.key)  # errors are raised by the reading, or when the key is needed
            return self._networks(on_part)

    def check_unchanged(self) -> None:
        """To be called once the networks have been copied, whose weights are mapped from the files.

        Raises:
            InferenceError: with WeightsUnreadable, if a file was replaced since they were found.
        """
        if self._stamp() != self.stamp:
            reason = "it was replaced while it was being read; ask again"
            raise InferenceError(WeightsUnreadable(model=self.entry.name, path=str(self.pipeline.path), reason=reason))

    def _networks(self, on_part: Callable[[], None]) -> dict[str, ReadNetwork]:
        networks = {}
        for part, where in self.parts.items():
            on_part()
            with _reading(self.entry.name, where.path):
                network = where.network(part)
                check_finite(part, network)
                if part == "unet":
                    _check_inputs(network)
            networks[part] = ReadNetwork(network)
        for lora in self.loras:
            on_part()
            _merge(self.entry, networks, lora)
        return networks

    def manifest(self, parts: Mapping[str, Label]) -> Manifest:
        """The model without its weights.

        Raises:
            InferenceError: with WeightsUnreadable.
        """
        tokenizers, schedule = self._small_parts
        return Manifest(
            parts=parts,
            tokenizers=tokenizers,
            schedule=schedule,
            zero_empty_negative=self.pipeline.zero_empty_negative,
            fingerprint=self.key,
        )

    @cached_property
    def _small_parts(self) -> tuple[dict[str, Any], Schedule]:
        """The tokenizers by text encoder, and the noise schedule."""
        with _reading(self.entry.name, self.pipeline.path):
            tokenizers = {encoder: self.pipeline.tokenizer(name) for name, encoder in self.pipeline.text_stages}
            return tokenizers, self.pipeline.schedule()


def open_model(
    catalog: Catalog, entry: ModelEntry, adapters: tuple[Adapter, ...], hashes: FileHashes | None = None
) -> ModelFiles:
    """Find the files of ``entry`` with ``adapters`` on top of its own; reads no weights. ``hashes``: known so far.

    Raises:
        InferenceError: with WeightsMissing, WeightsUnreadable or UnknownAdapter.
    """
    places: dict[Source, Path] = {}

    def locate(source: Source, adapter: str | None = None) -> Path:
        path = places[source] = _locate(entry, source, adapter)
        return path

    def opened(source: Source, open_at: Callable[[Path, str | None], Opened]) -> Opened:
        path = locate(source)
        with _reading(entry.name, path):
            return open_at(path, source.variant)

    prediction = entry.prediction or _said_by_unet(entry)
    pipeline = opened(entry.weights, partial(open_pipeline, prediction=prediction))
    open_other = partial(open_part, sdxl=len(pipeline.text_stages) == 2)
    parts = (*(encoder for _, encoder in pipeline.text_stages), "vae", "unet")
    own: dict[str, Networks] = dict.fromkeys(parts, pipeline)
    others = {"unet": entry.unet, "vae": entry.vae}
    loras = [_Lora("lcm_lora", locate(entry.lcm_lora), 1.0)] if entry.lcm_lora else []
    for style in (*entry.styles, *adapters):
        source = catalog.adapter(style.name, entry.family).weights
        loras.append(_Lora(style.name, locate(source, style.name), style.strength))
    return ModelFiles(
        entry=entry,
        pipeline=pipeline,
        parts=own | {part: opened(source, open_other) for part, source in others.items() if source},
        loras=tuple(loras),
        places=places,
        hashes=hashes or FileHashes(),
    )


def _said_by_unet(entry: ModelEntry) -> Prediction | None:
    """What another denoiser in one file declares that it predicts; a damaged file is reported when it is opened."""
    path = entry.unet.locate() if entry.unet and entry.unet.is_one_file else None
    with contextlib.suppress(OSError, ValueError):
        return read_info(path).prediction if path else None
    return None


def _locate(entry: ModelEntry, source: Source, adapter: str | None = None) -> Path:
    path = source.locate()
    if path is None:
        raise InferenceError(WeightsMissing(model=entry.name, path=source.whereabouts(adapter or entry.name)))
    return path


@contextmanager
def _reading(model: str, path: Path) -> Iterator[None]:
    """Turns the errors of damaged files into WeightsUnreadable; running out of memory is not the file's fault."""
    try:
        yield
    except MALFORMED as error:
        if is_out_of_memory(error):
            raise
        raise InferenceError(WeightsUnreadable(model=model, path=str(path), reason=reason_of(error))) from error


def _check_inputs(unet: Any) -> None:
    """Raise ``UnsupportedError`` for a denoiser that takes more than noisy latents."""
    reason = other_inputs(unet.config.in_channels, unet.config.out_channels)
    if reason is not None:
        raise UnsupportedError(reason)


def _merge(entry: ModelEntry, networks: dict[str, ReadNetwork], lora: _Lora) -> None:
    with _reading(entry.name, lora.path):
        try:
            merge_lora(networks, read_lora(lora.path), lora.strength)
        except UnfitError as unfit:
            what, needs = read_info(lora.path).words, f"a LoRA for {FAMILY_TITLES[entry.family]}"
            failure = AdapterUnfit(adapter=lora.name, model=entry.name, what=what, needs=needs, detail=str(unfit))
            raise InferenceError(failure) from unfit
