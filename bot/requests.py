"""From what a person typed or clicked to an order: pure, and refusing whatever cannot be drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from inference.catalog import Catalog
from inference.contract import ImageRequest
from inference.errors import InferenceError, SizeUnreadable
from inference.validation import check


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of ``/imagine``; None is what was not given."""

    prompt: str
    model: str | None = None
    seed: int | None = None
    count: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: str | None = None


def imagine(options: Options, catalog: Catalog, *, random_seed: int) -> ImageRequest:
    """The order that ``options`` ask for, with the model's own defaults for the rest; raises ``InferenceError``."""
    entry = catalog.default if options.model is None else catalog[options.model]
    width, height = (entry.width, entry.height) if options.size is None else _size(options.size)
    request = ImageRequest(
        prompt=" ".join(options.prompt.split()),
        model=entry.name,
        seed=random_seed if options.seed is None else options.seed,
        count=1 if options.count is None else options.count,
        steps=round(entry.steps.default) if options.steps is None else options.steps,
        guidance=entry.guidance.default if options.guidance is None else options.guidance,
        width=width,
        height=height,
    )
    check(request, catalog)
    return request


def reroll(request: ImageRequest, catalog: Catalog, *, random_seed: int) -> ImageRequest:
    """The same order with new seeds."""
    return _checked(replace(request, seed=random_seed, bucket=None), catalog)


def same_seed(request: ImageRequest, catalog: Catalog, *, bucket: int | None) -> ImageRequest:
    """The same order, padded as its pictures were when they were drawn: that makes the pixels identical."""
    return _checked(replace(request, bucket=bucket), catalog)


def edited(request: ImageRequest, catalog: Catalog, *, prompt: str) -> ImageRequest:
    """Another prompt with the same seed."""
    return _checked(replace(request, prompt=" ".join(prompt.split()), bucket=None), catalog)


def suggest_models(typed: str, catalog: Catalog) -> list[tuple[str, str]]:
    """Title and name of the models that fit what was typed so far; Discord shows 25 at most."""
    wanted = typed.casefold().split()
    fitting = [
        (f"{entry.title} ({entry.name})"[:100], entry.name)
        for entry in catalog
        if all(word in f"{entry.title} {entry.name} {entry.family}".casefold() for word in wanted)
    ]
    return fitting[:25]


def _checked(request: ImageRequest, catalog: Catalog) -> ImageRequest:
    """An old order may name a model that is gone, or one whose limits have changed."""
    check(request, catalog)
    return request


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×*:]\s*(\d{1,5})\s*", text, flags=re.IGNORECASE)
    if match is None:
        raise InferenceError(SizeUnreadable(text=text[:50]))
    return int(match[1]), int(match[2])
