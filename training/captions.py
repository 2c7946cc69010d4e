"""Captions for pictures: an emoji's name, perhaps with a colour, a background, its tags."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from training.pictures import Picture

COLOUR_WORD = re.compile(
    r"\b(red|orange|yellow|green|teal|light blue|blue|purple|pink|black|white|brown|grey|gray)\b ?"
)
UNCONDITIONAL = 0.1
"""Share of captions left empty, for classifier-free guidance (arXiv 2207.12598)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form in which an emoji is shown: its index in the vocabulary, with the colour and background it was given."""

    entry: int
    colour: str | None = None
    background: str | None = None

    @property
    def plain(self) -> bool:
        return self.colour is None and self.background is None

    def held_out(self) -> bool:
        """Whether this colour or this background of this emoji is held out from training, for the evaluation."""
        return any(_held_out(self.entry, name) for name in (self.colour, self.background) if name)


def _held_out(entry: int, name: str) -> bool:
    return (entry * 7919 + sum(map(ord, name)) * 31) % 5 == 0


def caption(picture: Picture, variant: Variant, rng: random.Random) -> str:
    """One of the ways to describe what is shown."""
    label = picture.label
    if variant.colour:
        label = f"{variant.colour} {COLOUR_WORD.sub('', label).strip() or label}"
    words = _phrase(label, rng)
    if not variant.colour and picture.tags and rng.random() < 0.12:
        words += ", " + ", ".join(rng.sample(picture.tags, min(len(picture.tags), 2)))
    return words + (f" on {article(variant.background)} background" if variant.background else "")


def article(noun: str) -> str:
    """``noun`` with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _phrase(label: str, rng: random.Random) -> str:
    chance = rng.random()
    plural = re.search(r"[^s]s$", label) is not None
    return label if chance < 0.45 or (plural and chance < 0.8) else article(label)
