"""Weights in prompts, written as in AUTOMATIC1111's web UI: ``a (red:1.3) apple with [leaves]``. Pure.

``(x)`` multiplies x's weight by 1.1, ``[x]`` divides it by 1.1, ``(x:1.3)`` multiplies it by the given number; nested
brackets multiply. An unmatched bracket is literal, and so is one after a backslash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = 1.1
MARK = re.compile(r"\\[()\[\]\\]|[(\[]|(?::\s*([+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))\s*)?\)|\]", re.ASCII)
"""A bracket, a weight with the bracket that ends it, or a character after a backslash."""
PARTNERS = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Weighted:
    """A parsed prompt: the ``text`` that is read, with a space in place of every bracket that set a weight.

    ``weights``: one for each of its characters; ``places``: their positions in the prompt, then the prompt's length.
    """

    text: str
    weights: tuple[float, ...]
    places: tuple[int, ...]


def read_weights(prompt: str) -> Weighted:
    """Parse the brackets in ``prompt``. Weights are taken as written, even beyond what makes sense."""
    marks = list(MARK.finditer(prompt))
    factors = _factors(marks)
    meant: list[tuple[str, float, int]] = []
    around = [1.0]
    end = 0

    def take(start: int, stop: int) -> None:
        meant.extend((prompt[place], around[-1], place) for place in range(start, stop))

    for index, mark in enumerate(marks):
        take(end, mark.start())
        end = mark.end()
        if index not in factors:
            take(mark.start() + mark[0].startswith("\\"), end)
            continue
        meant.append((" ", 1.0, mark.start()))
        if (factor := factors[index]) is None:
            around.pop()
        else:
            around.append(around[-1] * factor)
    take(end, len(prompt))
    characters, weights, places = zip(*meant, strict=True) if meant else ((), (), ())
    return Weighted("".join(characters), weights, (*places, len(prompt)))


def beginning(prompt: str, characters: int) -> str:
    """The beginning of ``prompt`` that the first ``characters`` of its parsed text come from."""
    places = read_weights(prompt).places
    return prompt[: places[characters]].rstrip() if characters < len(places) else prompt


def literally(text: str) -> str:
    """``text`` with its brackets and backslashes escaped, so that a prompt means them literally."""
    return re.sub(r"[()\[\]\\]", r"\\\g<0>", text)


def _factors(marks: list[re.Match[str]]) -> dict[int, float | None]:
    """By index in ``marks``, for every bracket with a partner: the factor of an opening one, None for a closing one."""
    factors: dict[int, float | None] = {}
    opened: list[tuple[str, int]] = []
    waiting = {"(": 0, "[": 0}
    for index, mark in enumerate(marks):
        bracket = mark[0][-1]
        if mark[0].startswith("\\"):
            continue
        if bracket not in PARTNERS:
            opened.append((bracket, index))
            waiting[bracket] += 1
        elif waiting[PARTNERS[bracket]]:
            other = ""
            while other != PARTNERS[bracket]:  # what was opened in between has no partner
                other, place = opened.pop()
                waiting[other] -= 1
            factors[place] = float(mark[1]) if mark[1] else STEP if bracket == ")" else 1 / STEP
            factors[index] = None
    return factors
