"""Options as Midjourney writes them: ``a fox --ar 3:2 --seed 5 --no blur`` in the prompt itself. Pure.

Phones turn two hyphens into a dash, and Chinese keyboards have their own; both are understood. So is
``<lora:name:0.8>``, as AUTOMATIC1111 writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from bot.ordering.access import Refused
from bot.words import _
from inference.contract import Adapter
from inference.validation import parse_adapter, parse_real, parse_whole

DASH = r"(?:^|\s)(?:[-－−]{2}|[—–])[-－−—–]*(?=[A-Za-z])"
"""Two hyphens or a dash, or more of them, before a word. A dash with a space after it is punctuation."""
FLAG = re.compile(rf"{DASH}([A-Za-z][\w-]*)=?")
LORA = re.compile(r"<lora:([^:<>]+)(?::([^<>]*))?>", re.IGNORECASE)
QUOTES = "\"'“”"
RANDOM = -1
"""In place of a seed, as in AUTOMATIC1111: a random one, whatever is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a picture is asked for; None means not given. ``aspect`` is a ratio (3:2) or a size (512x768).

    ``vary`` is the strength of a variation, 0 for none; ``seed`` and ``vary_seed`` may be ``RANDOM``. ``strength`` is
    for the one LoRA that the prompt names; ``merged`` applies it.
    """

    prompt: str
    negative: str | None = None
    model: str | None = None
    aspect: str | None = None
    width: int | None = None
    height: int | None = None
    count: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    vary: float | None = None
    vary_seed: int | None = None
    adapters: tuple[Adapter, ...] = ()
    strength: float | None = None
    spoiler: bool | None = None


@dataclass(slots=True)
class _Found:
    """What the flags have given so far."""

    values: dict[str, Any] = field(default_factory=dict)
    adapters: list[Adapter] = field(default_factory=list)


def merged(options: Options) -> Options:
    """``options`` merged with the flags in its prompt; a given option wins over a flag.

    Negative prompts are joined. If a LoRA is named twice, the last strength counts.
    Raises ``Refused`` for an unknown flag and for a strength without the one LoRA that it is meant for, and
    ``InferenceError(NotANumber)`` for a value that cannot be parsed.
    """
    found = _Found()
    prompt = LORA.sub(lambda match: _take_lora(match, found), options.prompt)
    (_nothing, words), *flags = _split(prompt)
    for name, value in flags:
        _take(name.lower(), value, found)
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) is not None}
    if options.negative and found.values.get("negative"):
        given["negative"] = f"{options.negative}, {found.values['negative']}"
    chosen = {adapter.name.casefold(): adapter for adapter in options.adapters}
    flagged = {adapter.name.casefold(): adapter for adapter in found.adapters}
    adapters = tuple((chosen | flagged | chosen).values())
    if options.strength is not None:
        adapters = _strengthened(adapters, options.strength)
    return Options(**{**found.values, **given, "prompt": words.strip(), "adapters": adapters, "strength": None})


def written(options: Options) -> str:
    """``options`` as flags, without prompt and negative prompt; ``merged`` reads them back."""
    parts = [
        f"--{name} {_decimal(value)}" if isinstance(value, float) else f"--{name} {value}"
        for name, value in (
            ("model", options.model),
            ("ar", options.aspect),
            ("count", options.count),
            ("steps", options.steps),
            ("guidance", options.guidance),
            ("seed", options.seed),
            ("vary", options.vary),
            ("vary-seed", options.vary_seed),
        )
        if value is not None
    ]
    parts += [f"--lora {adapter.name}:{_decimal(adapter.strength)}" for adapter in options.adapters]
    return " ".join(parts + (["--spoiler"] if options.spoiler else []))


def _split(prompt: str) -> Iterator[tuple[str, str]]:
    """The prompt's own words under an empty name, then each flag's name and value."""
    matches = list(FLAG.finditer(prompt))
    first, *ends = [*(match.start() for match in matches), len(prompt)]
    yield "", prompt[:first]
    for match, end in zip(matches, ends, strict=True):
        yield match[1], prompt[match.end() : end].strip()


def _take(name: str, value: str, found: _Found) -> None:
    if name not in _FLAGS:
        known = ", ".join(f"`--{flag}`" for flag in KNOWN)
        raise Refused(
            _(
                "I do not know `--{flag}`. You can use {known}. To write a plain dash, put a space after it.",
                flag=name,
                known=known,
            )
        )
    key, read = _FLAGS[name]
    if key == "adapters":
        found.adapters.append(parse_adapter(value))
    elif key == "negative" and "negative" in found.values:
        found.values["negative"] += f", {value}"
    else:
        found.values[key] = read(value)


def _take_lora(match: re.Match[str], found: _Found) -> str:
    found.adapters.append(parse_adapter(f"{match[1]}:{match[2]}" if match[2] else match[1]))
    return " "


def _strengthened(adapters: tuple[Adapter, ...], strength: float) -> tuple[Adapter, ...]:
    if len(adapters) != 1:
        raise Refused(_("`lora_strength` is for one LoRA: choose it in `lora`, or name just one in the prompt."))
    return (replace(adapters[0], strength=strength),)


def _decimal(value: float) -> str:
    """A number in a form that can be parsed again, to the last digit that counts."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _unquoted(text: str) -> str:
    return text.strip(QUOTES)


def _switch(text: str) -> bool:
    if text:
        raise Refused(_("`--spoiler` takes no value; “{value}” belongs before the flags.", value=text[:50]))
    return True


_GUIDANCE, _COUNT = partial(parse_real, "guidance"), partial(parse_whole, "count")
_FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ar": ("aspect", str), "aspect": ("aspect", str), "size": ("aspect", str),
    "no": ("negative", str), "negative": ("negative", str),
    "seed": ("seed", partial(parse_whole, "seed")),
    "vary": ("vary", partial(parse_real, "variation strength")),
    "vary-seed": ("vary_seed", partial(parse_whole, "variation seed")),
    "steps": ("steps", partial(parse_whole, "number of steps")),
    "guidance": ("guidance", _GUIDANCE), "cfg": ("guidance", _GUIDANCE),
    "count": ("count", _COUNT), "repeat": ("count", _COUNT), "r": ("count", _COUNT),
    "model": ("model", _unquoted), "m": ("model", _unquoted),
    "width": ("width", partial(parse_whole, "width")), "w": ("width", partial(parse_whole, "width")),
    "height": ("height", partial(parse_whole, "height")), "h": ("height", partial(parse_whole, "height")),
    "lora": ("adapters", str),
    "spoiler": ("spoiler", _switch),
}  # fmt: skip
"""Every spelling, with the option that it sets and how its value is parsed."""
KNOWN = (
    *("ar", "no", "seed", "vary", "vary-seed", "steps", "guidance", "count", "model", "width", "height", "lora"),
    "spoiler",
)
"""The spellings that people are told about."""
