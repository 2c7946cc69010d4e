"""Weights in prompts, written as in AUTOMATIC1111's web UI: ``a (red:1.3) apple with [leaves]``. Pure.

``(x)`` makes x 1.1 times as strong, ``[x]`` 1.1 times weaker, ``(x:1.3)`` as strong as it says; brackets in brackets
multiply. A bracket that nothing closes or opens is meant as such, and so is one after a backslash.
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
    """A prompt as it is meant: the ``text`` that is read, with a space for every bracket that was a mark.

    ``weights`` of each of its characters; ``places``: where in the prompt each of them stands, and the prompt's end.
    """

    text: str
    weights: tuple[float, ...]
    places: tuple[int, ...]


def read_weights(prompt: str) -> Weighted:
    """What the brackets in ``prompt`` mean. The weights are whatever they say, also beyond what makes sense."""
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
    """As much of ``prompt`` as says so many characters."""
    places = read_weights(prompt).places
    return prompt[: places[characters]].rstrip() if characters < len(places) else prompt


def literally(text: str) -> str:
    """The prompt that means ``text`` as it stands, brackets and all."""
    return re.sub(r"[()\[\]\\]", r"\\\g<0>", text)


def _factors(marks: list[re.Match[str]]) -> dict[int, float | None]:
    """By the place of each bracket that has a partner: of an opening one its factor, of a closing one None."""
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
            while other != PARTNERS[bracket]:  # what was opened in between is closed by nothing
                other, place = opened.pop()
                waiting[other] -= 1
            factors[place] = float(mark[1]) if mark[1] else STEP if bracket == ")" else 1 / STEP
            factors[index] = None
    return factors
