"""Side by side: one seed with several models, LoRAs, steps or guidance scales, or with other words. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bot.ordering import requests
from bot.ordering.access import Refused
from bot.ordering.flags import Options
from bot.words import _, steps_of
from inference.catalog import Catalog
from inference.catalog.entries import ModelEntry
from inference.contract import Adapter, ImageRequest
from inference.validation import parse_adapter, parse_real, parse_whole

MOST = 9
"""Maximum pictures in a comparison; a gallery takes ten."""
COMMA = r"[,，、]"
"""Includes the commas of Chinese keyboards."""
GROUP = re.compile(rf"\{{([^{{}}]*{COMMA}[^{{}}]*)\}}")
"""Alternatives, as in Midjourney: ``a {red, green} apple``."""
WORD = re.compile(r"[\u2e80-\u9fff]|[^\W\u2e80-\u9fff]+|\W")
"""Every single character in Chinese and Japanese, which have no spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What is compared, as people type it: comma-separated values."""

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
    """The orders for every combination, including alternatives in the prompt. ``find`` returns the model of a name, and
    for None the one that draws here; ``shown`` are the models compared if nothing else is.

    Raises ``Refused`` for fewer than two or more than MOST orders, and ``InferenceError`` for what cannot be drawn.
    """
    names: list[str | None] = list(_parts(axes.models)) or [None]
    prompts = _Prompts(options.prompt)
    if axes == Axes() and prompts.count == 1:
        names = [entry.name for entry in shown[:MOST]]
    step_counts: list[int | None] = [parse_whole("number of steps", part) for part in _parts(axes.steps)]
    guidances: list[float | None] = [parse_real("guidance", part) for part in _parts(axes.guidance)]
    choices = (
        names,
        [_loras(part) for part in _parts(axes.loras)] or [options.adapters],
        step_counts or [options.steps],
        guidances or [options.guidance],
    )
    count = prompts.count * math.prod(len(values) for values in choices)
    if not 2 <= count <= MOST:
        raise Refused(
            _(
                "A comparison has 2 to {most} pictures; this would have {count}. "
                "For example, name two models, or three step counts.",
                most=MOST,
                count=f"{count:.5g}",
            )
        )
    found = []
    for prompt, name, adapters, steps, guidance in itertools.product(prompts, *choices):
        asked = replace(options, prompt=prompt, model=name, adapters=adapters, steps=steps, guidance=guidance, count=1)
        asked = replace(asked, vary=None, vary_seed=None)  # the same seed, and no variations
        found.append(requests.imagine(asked, catalog, entry=find(name), seed=seed))
    return found


def labels(orders: Sequence[ImageRequest], catalog: Catalog, *, words: bool = True) -> list[str]:
    """What tells each order from the others, in a few words; without ``words``, nothing of its prompt."""
    titles = [catalog.title_or_name(order.model) for order in orders]
    loras = [" ".join(f"{lora.name} {lora.strength:g}" for lora in order.adapters) or _("no LoRA") for order in orders]
    steps = [steps_of(order.steps) for order in orders]
    guidances = [_("guidance {guidance}", guidance=f"{order.guidance:g}") for order in orders]
    columns = [column for column in (titles, loras, steps, guidances) if len(set(column)) > 1]
    if words and len({order.prompt for order in orders}) > 1:
        columns.insert(0, parted([order.prompt for order in orders])[1])
    return [" · ".join(row) for row in zip(*(columns or [titles]), strict=True)]


def parted(prompts: Sequence[str]) -> tuple[str, list[str]]:
    """What the prompts have in common, with their differing parts listed in braces; and the differing part of each."""
    words = [WORD.findall(prompt) for prompt in prompts]
    start = _in_common(words)
    end = _in_common([said[start:][::-1] for said in words])
    middles = ["".join(said[start : len(said) - end]).strip() or "–" for said in words]
    if len(set(prompts)) == 1:
        return prompts[0], middles
    before, after = "".join(words[0][:start]), "".join(words[0][len(words[0]) - end :])
    return f"{before}{{{', '.join(dict.fromkeys(middles))}}}{after}", middles


def _in_common(sequences: Sequence[Sequence[str]]) -> int:
    """How many items all of them have in common at the beginning."""
    alike = (len(set(items)) == 1 for items in zip(*sequences, strict=False))
    return len(list(itertools.takewhile(bool, alike)))


class _Prompts:
    """Every prompt that a prompt with alternatives stands for."""

    def __init__(self, prompt: str) -> None:
        pieces = GROUP.split(prompt)
        self._choices = [_parts(piece) or [""] if place % 2 else [piece] for place, piece in enumerate(pieces)]

    @property
    def count(self) -> int:
        """How many there are; may be more than ``len`` can return."""
        return math.prod(map(len, self._choices))

    def __iter__(self) -> Iterator[str]:
        return map("".join, itertools.product(*self._choices))


def _parts(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in re.split(COMMA, text or "") if part.strip()))


def _loras(text: str) -> tuple[Adapter, ...]:
    """A LoRA with its strength (``ink:0.5``), or none at all (``-``)."""
    return () if text == "-" else (parse_adapter(text),)
