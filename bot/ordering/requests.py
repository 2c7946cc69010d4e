"""From what a person typed or clicked to an order. Pure; refuses whatever cannot be drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from bot.ordering.access import Refused
from bot.ordering.flags import QUOTES, RANDOM, Options
from bot.store import Job, StoredPicture
from bot.words import _
from inference.catalog import Catalog
from inference.catalog.entries import Limits, ModelEntry
from inference.contract import SIZE_MULTIPLE, ImageRequest, Variation
from inference.errors import InferenceError
from inference.pictures.infotext import Infotext
from inference.pictures.recipe import Recipe
from inference.validation import check, known_as, parse_size, takes_size

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16")
FULL_WIDTH_COLON = "\N{FULLWIDTH COLON}"
"""The colon in a ratio, as Chinese keyboards write it."""
COARSE_MULTIPLE = 64
"""Large pictures get sides that are multiples of this, as in the models' training; few shapes share more batches."""
COARSE_FROM = 512


def imagine(
    options: Options, catalog: Catalog, *, entry: ModelEntry, seed: int, variation_seed: int = 0
) -> ImageRequest:
    """The order that ``options`` ask of ``entry``, with the model's own defaults for the rest.

    ``seed`` and ``variation_seed`` are used if ``options`` has none, or ``RANDOM``. Raises ``InferenceError``, and
    ``Refused`` for a variation's seed without its strength and for an aspect that cannot be read.
    """
    width, height = size(options, entry)
    request = ImageRequest(
        prompt=" ".join(options.prompt.split()),
        negative=" ".join((options.negative or "").split()),
        model=entry.name,
        adapters=known_as(options.adapters, catalog, entry),
        seed=seed if options.seed in (None, RANDOM) else options.seed,
        count=1 if options.count is None else options.count,
        steps=round(entry.steps.default) if options.steps is None else options.steps,
        guidance=entry.guidance.default if options.guidance is None else options.guidance,
        width=width,
        height=height,
        variation=_variation(options, variation_seed),
    )
    check(request, catalog)
    return request


def _variation(options: Options, seed: int) -> Variation | None:
    if options.vary is None and options.vary_seed is not None:
        raise Refused(_("`--vary-seed` also needs a strength, for example `--vary 0.2`."))
    if not options.vary:
        return None
    given = seed if options.vary_seed in (None, RANDOM) else options.vary_seed
    return Variation(seed=given, strength=options.vary)


def reroll(request: ImageRequest, catalog: Catalog, *, seed: int) -> ImageRequest:
    """The same order with new seeds; for a variation, other variations of the same picture."""
    again = replace(request, bucket=None, guided_bucket=None)
    if again.variation is not None:
        return _checked(replace(again, variation=replace(again.variation, seed=seed)), catalog)
    return _checked(replace(again, seed=seed), catalog)


def same_seed(request: ImageRequest, catalog: Catalog, *, drawn: Sequence[StoredPicture]) -> ImageRequest:
    """The same order, padded as its pictures were when they were ``drawn``, which makes the pixels identical.

    A batch that did not fit into memory was halved, so its buckets may be too small for the order: then none is asked
    for, and the halving is left to happen again.
    """
    bucket = max((picture.bucket for picture in drawn), default=0)
    guided_bucket = max((picture.guided_bucket for picture in drawn), default=0)
    if bucket < request.count:
        return _checked(replace(request, bucket=None, guided_bucket=None), catalog)
    fits = guided_bucket == 0 or guided_bucket >= request.count
    return _checked(replace(request, bucket=bucket, guided_bucket=guided_bucket if fits else None), catalog)


def alone(request: ImageRequest, index: int) -> ImageRequest:
    """Only picture ``index`` of an order."""
    seed, variation = request.picture_seed(index), request.picture_variation(index)
    return replace(request, seed=seed, variation=variation, count=1, bucket=None, guided_bucket=None)


def varied(request: ImageRequest, catalog: Catalog, *, index: int, variation: Variation, count: int) -> ImageRequest:
    """``count`` variations of picture ``index`` of an order. Variations do not add up: if the picture is one itself,
    these vary its original seed."""
    return _checked(replace(alone(request, index), variation=variation, count=count), catalog)


def other_model(request: ImageRequest, catalog: Catalog, *, entry: ModelEntry) -> ImageRequest:
    """The same prompt and seed drawn by ``entry``, with its own steps and guidance.

    Within a family the size stays; another family gets the same shape at the size it draws best. LoRAs that do not fit
    are dropped.
    """
    before = catalog[request.model]
    fitting = {adapter.name for adapter in catalog.adapters(entry.family)}
    width, height = request.width, request.height
    if before.family is not entry.family:
        width, height = shaped(width / height, entry)
    changed = replace(
        request,
        model=entry.name,
        adapters=tuple(adapter for adapter in request.adapters if adapter.name in fitting),
        steps=round(entry.steps.default),
        guidance=entry.guidance.default,
        width=width,
        height=height,
        bucket=None,
        guided_bucket=None,
    )
    return _checked(changed, catalog)


def options_of(request: ImageRequest) -> Options:
    """The options that order exactly this."""
    return Options(
        prompt=request.prompt,
        negative=request.negative or None,
        model=request.model,
        aspect=f"{request.width}x{request.height}",
        count=request.count,
        steps=request.steps,
        guidance=request.guidance,
        seed=request.seed,
        vary=request.variation.strength if request.variation else None,
        vary_seed=request.variation.seed if request.variation else None,
        adapters=request.adapters,
    )


def options_again(job: Job) -> Options:
    """The options that order the same as ``job``, covered if its pictures are."""
    return replace(options_of(job.request), spoiler=job.spoiler or None)


def options_from(found: Recipe | Infotext, catalog: Catalog) -> Options:
    """What a picture's own recipe says, as far as it can be followed here: an unknown model is left open, and with it
    the numbers that were its own."""
    options = options_of(found.request()) if isinstance(found, Recipe) else _options_of_a_text(found, catalog)
    if options.model is not None and catalog.get(options.model) is not None:
        return options
    ratio = None if options.aspect is None else options.aspect.replace("x", ":")
    return replace(options, model=None, aspect=ratio, steps=None, guidance=None, adapters=())


def _options_of_a_text(found: Infotext, catalog: Catalog) -> Options:
    """What another program's picture says. Steps and guidance that the model does not take here were meant for drawing
    without LCM: they are left to the model. Of a size that it does not draw, only the shape is kept."""
    entry = catalog.of_file(found.model)
    return Options(
        prompt=found.prompt,
        negative=found.negative or None,
        model=None if entry is None else entry.name,
        aspect=_aspect(found.width, found.height, entry) if found.width and found.height else None,
        steps=found.steps if entry is not None and _possible(found.steps, entry.steps) else None,
        guidance=found.guidance if entry is not None and _possible(found.guidance, entry.guidance) else None,
        seed=found.seed,
        vary=found.variation.strength if found.variation else None,
        vary_seed=found.variation.seed if found.variation else None,
    )


def _aspect(width: int, height: int, entry: ModelEntry | None) -> str:
    """The size if this model draws it, else the shape."""
    return f"{width}x{height}" if entry is not None and takes_size(entry, width, height) else f"{width}:{height}"


def _possible(value: float | None, limits: Limits) -> bool:
    return value is not None and value in limits


def size(options: Options, entry: ModelEntry) -> tuple[int, int]:
    """Width and height in pixels: as given, or the shape asked for at about the area that ``entry`` draws best. If a
    shape and one side are given, the other side follows. Raises ``Refused`` if neither can be read."""
    width, height = entry.width, entry.height
    if options.aspect is not None:
        shape = options.aspect.strip(QUOTES).replace(FULL_WIDTH_COLON, ":")
        if ratio := re.fullmatch(r"\s*0*([1-9]\d{0,3})\s*:\s*0*([1-9]\d{0,3})\s*", shape, re.ASCII):
            width, height = _sides(int(ratio[1]) / int(ratio[2]), options, entry)
        else:
            width, height = _pixels(shape)
    return width if options.width is None else options.width, height if options.height is None else options.height


def _pixels(shape: str) -> tuple[int, int]:
    try:
        return parse_size(shape)
    except InferenceError:
        sentence = _("“{text}” is neither a shape nor a size. Write for example 3:2, or 512x512.", text=shape[:50])
        raise Refused(sentence) from None


def _sides(ratio: float, options: Options, entry: ModelEntry) -> tuple[int, int]:
    """The sides of a shape (width / height); if one side is given, the other follows, however large it gets."""

    def rounded(side: float) -> int:
        return max(SIZE_MULTIPLE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)

    if options.width is not None:
        return options.width, rounded(options.width / ratio)
    if options.height is not None:
        return rounded(options.height * ratio), options.height
    return shaped(ratio, entry)


def shaped(ratio: float, entry: ModelEntry) -> tuple[int, int]:
    """The sides nearest to ``ratio`` (width / height) with the area of the model's own size, within its limits."""
    multiple = COARSE_MULTIPLE if min(entry.width, entry.height) >= COARSE_FROM else SIZE_MULTIPLE
    area = entry.width * entry.height

    def fitted(side: float) -> int:
        rounded = max(multiple, round(side / multiple) * multiple)
        return min(max(rounded, entry.smallest_side), entry.largest_side)

    return fitted(math.sqrt(area * ratio)), fitted(math.sqrt(area / ratio))


def suggest_aspects(typed: str, entry: ModelEntry) -> list[tuple[str, str]]:
    """Labels and values of the shapes of ``entry`` that begin with what was typed."""
    found = []
    for ratio in RATIOS:
        across, down = map(int, ratio.split(":"))
        width, height = shaped(across / down, entry)
        if ratio.startswith(typed.strip()):
            found.append((f"{ratio} ({width}×{height})", ratio))
    return found


def _checked(request: ImageRequest, catalog: Catalog) -> ImageRequest:
    """Check again: an old order may name a model that is gone, or one whose limits have changed."""
    check(request, catalog)
    return request
