"""Side by side: one prompt and one seed by several models, LoRAs, steps or guidance scales. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bot.ordering import requests
from bot.ordering.access import Refused
from bot.ordering.flags import Options
from bot.words import _, steps_of
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import Adapter, ImageRequest
from inference.validation import parse_adapter, parse_real, parse_whole

MOST = 9
"""Pictures beside each other; a gallery takes ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What is compared, as people type it: values with commas between them."""

    models: str | None = None
    loras: str | None = None
    steps: str | None = None
    guidance: str | None = None


def variants(
    options: Options,
    axes: Axes,
    catalog: Catalog,
    *,
    find: Callable[[str | None], ModelEntry],
    shown: Sequence[ModelEntry],
    seed: int,
) -> list[ImageRequest]:
    """The orders of every combination. ``find`` gives the model of a name, None being the one that draws here;
    ``shown`` are compared where nothing else is.

    Raises ``Refused`` for fewer than two or more than MOST, and ``InferenceError`` for what cannot be drawn.
    """
    names: list[str | None] = list(_parts(axes.models)) or [None]
    if axes == Axes():
        names = [entry.name for entry in shown[:MOST]]
    step_counts: list[int | None] = [parse_whole("number of steps", part) for part in _parts(axes.steps)]
    guidances: list[float | None] = [parse_real("guidance", part) for part in _parts(axes.guidance)]
    combinations = list(
        itertools.product(
            names,
            [_loras(part) for part in _parts(axes.loras)] or [options.adapters],
            step_counts or [options.steps],
            guidances or [options.guidance],
        )
    )
    if not 2 <= len(combinations) <= MOST:
        raise Refused(
            _(
                "A comparison has 2 to {most} pictures; this would have {count}. "
                "Name for example two models, or three steps.",
                most=MOST,
                count=len(combinations),
            )
        )
    found = []
    for name, adapters, steps, guidance in combinations:
        asked = replace(options, model=name, adapters=adapters, steps=steps, guidance=guidance, count=1)
        asked = replace(asked, vary=None, vary_seed=None)  # one seed, and nothing but that
        found.append(requests.imagine(asked, catalog, entry=find(name), seed=seed))
    return found


def labels(orders: Sequence[ImageRequest], catalog: Catalog) -> list[str]:
    """What tells each order from the others, in a few words."""
    differing = [part for part in _PARTS if len({part(order, catalog) for order in orders}) > 1] or [_PARTS[0]]
    return [" · ".join(part(order, catalog) for part in differing) for order in orders]


def _parts(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _loras(text: str) -> tuple[Adapter, ...]:
    """A LoRA with its strength (``ink:0.5``), or none at all (``-``)."""
    return () if text == "-" else (parse_adapter(text),)


def _title(order: ImageRequest, catalog: Catalog) -> str:
    return catalog.title_or_name(order.model)


def _adapters(order: ImageRequest, _catalog: Catalog) -> str:
    return " ".join(f"{adapter.name} {adapter.strength:g}" for adapter in order.adapters) or _("no LoRA")


def _steps(order: ImageRequest, _catalog: Catalog) -> str:
    return steps_of(order.steps)


def _guidance(order: ImageRequest, _catalog: Catalog) -> str:
    return _("guidance {guidance}", guidance=f"{order.guidance:g}")


_PARTS: tuple[Callable[[ImageRequest, Any], str], ...] = (_title, _adapters, _steps, _guidance)
