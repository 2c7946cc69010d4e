"""Whether an order can be drawn: pure checks, made before anything is promised to the person who asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inference.catalog import Catalog
from inference.catalog.entries import Limits, ModelEntry
from inference.contract import (
    MAX_COUNT,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SIZE_MULTIPLE,
    Adapter,
    ImageRequest,
)
from inference.errors import (
    InferenceError,
    NotANumber,
    OutOfRange,
    PromptEmpty,
    PromptTooLong,
    SizeNotPossible,
    SizeUnreadable,
    WeightOutOfRange,
)
from inference.prompts import read_weights

SEEDS = Limits(default=0, low=0, high=MAX_SEED)
COUNTS = Limits(default=1, low=1, high=MAX_COUNT)
LARGEST_BUCKET = 64
"""The largest batch that a queue may be set to."""
STRENGTHS = Limits(default=1.0, low=-2.0, high=2.0)
VARIATION_STRENGTHS = Limits(default=0.0, low=0.0, high=1.0)
WEIGHTS = Limits(default=1.0, low=0.0, high=10.0)


def check(request: ImageRequest, catalog: Catalog) -> ModelEntry:
    """Check that everything in ``request`` is possible; returns the entry that draws it.

    Raises:
        InferenceError: with what ``validate`` raises, or UnknownModel, UnknownAdapter.
    """
    entry = catalog[request.model]
    for adapter in request.adapters:
        catalog.adapter(adapter.name, entry.family)
    validate(request, entry)
    return entry


def validate(request: ImageRequest, entry: ModelEntry) -> None:
    """Check every number and text of ``request`` against what ``entry`` can draw.

    Raises:
        InferenceError: with PromptEmpty, PromptTooLong, WeightOutOfRange, OutOfRange or SizeNotPossible.
    """
    _readable("prompt", request.prompt)
    _readable("negative prompt", request.negative)
    if not read_weights(request.prompt).text.strip():
        raise InferenceError(PromptEmpty())
    _within("seed", request.seed, SEEDS)
    if request.variation is not None:
        _within("variation seed", request.variation.seed, SEEDS)
        _within("variation strength", request.variation.strength, VARIATION_STRENGTHS)
    _within("count", request.count, COUNTS)
    _within("number of steps", request.steps, entry.steps)
    _within("guidance", request.guidance, entry.guidance)
    if request.bucket is not None:
        _within("bucket", request.bucket, Limits(default=request.count, low=request.count, high=LARGEST_BUCKET))
    if request.guided_bucket:
        limits = Limits(default=request.count, low=request.count, high=request.bucket or LARGEST_BUCKET)
        _within("guided bucket", request.guided_bucket, limits)
    for adapter in request.adapters:
        _within("LoRA strength", adapter.strength, STRENGTHS)
    _drawable(request.width, request.height, entry)


def takes_size(entry: ModelEntry, width: int, height: int) -> bool:
    """Whether a model draws pictures of this size."""
    smallest, largest = entry.smallest_side, entry.largest_side
    return all(smallest <= side <= largest and side % SIZE_MULTIPLE == 0 for side in (width, height))


def known_as(typed: Iterable[Adapter], catalog: Catalog, entry: ModelEntry) -> tuple[Adapter, ...]:
    """The typed LoRAs under their names in the catalogue; if one is named twice, its last strength counts.

    Raises ``InferenceError(UnknownAdapter)``.
    """
    strengths = {catalog.find_adapter(adapter.name, entry.family).name: adapter.strength for adapter in typed}
    return tuple(Adapter(name=name, strength=strength) for name, strength in strengths.items())


def parse_size(text: str) -> tuple[int, int]:
    """Width and height, in pixels, from “512x768”; raises ``InferenceError(SizeUnreadable)``."""
    match = re.fullmatch(r"\s*0*([1-9]\d{0,4})\s*[x×*:]\s*0*([1-9]\d{0,4})\s*", text, flags=re.IGNORECASE | re.ASCII)
    if match is None:
        raise InferenceError(SizeUnreadable(text=text[:50]))
    return int(match[1]), int(match[2])


def parse_whole(field: str, text: str) -> int:
    """A whole number as people type it; raises ``InferenceError(NotANumber)``, which names the ``field``."""
    if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII):
        raise InferenceError(NotANumber(field=field, value=text[:50]))
    return int(text)


def parse_real(field: str, text: str) -> float:
    """A number as people type it, with a point or a comma; raises like ``parse_whole``."""
    if not re.fullmatch(r"\s*[+-]?(\d{1,9}([.,]\d{1,9})?|[.,]\d{1,9})\s*", text, re.ASCII):
        raise InferenceError(NotANumber(field=field, value=text[:50]))
    return float(text.replace(",", "."))


def parse_adapter(text: str) -> Adapter:
    """A LoRA with its strength (“ink:0.5”), 1 if none is given; raises like ``parse_whole``."""
    name, strength = (part.strip() for part in text.partition(":")[::2])
    return Adapter(name=name, strength=parse_real("LoRA strength", strength) if strength else 1.0)


def _readable(field: str, text: str) -> None:
    meant = read_weights(text)
    if (length := len(meant.text)) > MAX_PROMPT_CHARACTERS:
        raise InferenceError(PromptTooLong(field=field, length=length, limit=MAX_PROMPT_CHARACTERS))
    for character, weight in zip(meant.text, meant.weights, strict=True):
        if weight not in WEIGHTS and not character.isspace():
            raise InferenceError(WeightOutOfRange(value=f"{weight:.5g}", low=WEIGHTS.low, high=WEIGHTS.high))


def _within(field: str, value: float, limits: Limits) -> None:
    if value not in limits:
        raise InferenceError(OutOfRange(field=field, value=f"{value:.15g}", low=limits.low, high=limits.high))


def _drawable(width: int, height: int, entry: ModelEntry) -> None:
    if takes_size(entry, width, height):
        return
    raise InferenceError(
        SizeNotPossible(
            width=width,
            height=height,
            multiple=SIZE_MULTIPLE,
            smallest=entry.smallest_side,
            largest=entry.largest_side,
            suggestion=(_nearest(width, entry), _nearest(height, entry)),
        )
    )


def _nearest(side: int, entry: ModelEntry) -> int:
    rounded = round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE
    return min(max(rounded, entry.smallest_side), entry.largest_side)
