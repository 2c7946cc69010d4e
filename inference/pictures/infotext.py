"""AUTOMATIC1111's ``parameters`` text: prompt, negative prompt, a line of settings; written and read by its rules."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from inference.contract import Variation

NEGATIVE = "Negative prompt:"
SETTING = re.compile(r'\s{0,9}(\w[\w \-/]{1,99}):\s{0,9}("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""As in the web UI's own parser (modules/infotext_utils.py), but bounded: otherwise a hostile text of some thousand
spaces would hang the whole program."""
FEWEST_SETTINGS = 3
"""A last line with fewer settings is part of the prompt, by the web UI's rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Infotext:
    """The contents of such a text; None or empty where it has none."""

    prompt: str
    negative: str = ""
    steps: int | None = None
    sampler: str = ""
    guidance: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    model: str = ""
    variation: Variation | None = None
    adapters: str = ""
    version: str = ""


def write(info: Infotext) -> str:
    """The text, with keys in the web UI's order. ``RNG: CPU`` tells its readers where the noise came from.

    A prompt that itself contains “Negative prompt:” would be cut there by every reader, so its colon becomes a dash.
    """
    settings = [
        ("Steps", info.steps),
        ("Sampler", info.sampler),
        ("CFG scale", None if info.guidance is None else f"{info.guidance:g}"),
        ("Seed", info.seed),
        ("Size", f"{info.width}x{info.height}"),
        ("Model", info.model),
        ("Variation seed", info.variation and info.variation.seed),
        ("Variation seed strength", info.variation and f"{info.variation.strength:g}"),
        ("RNG", "CPU"),
        ("Adapters", info.adapters),
        ("Version", info.version),
    ]
    lines = [_unambiguous(info.prompt)]
    if info.negative.strip():
        lines.append(f"{NEGATIVE} {_unambiguous(info.negative)}")
    lines.append(", ".join(f"{key}: {_quoted(str(value))}" for key, value in settings if value not in (None, "")))
    return "\n".join(lines)


def read(text: str) -> Infotext:
    """Parse ``text``; raises ``ValueError`` if its last line holds no settings."""
    *lines, last = text.strip().split("\n")
    settings = {key.strip(): _unquoted(value) for key, value in SETTING.findall(last)}
    if len(settings) < FEWEST_SETTINGS:
        raise ValueError("its “parameters” name no settings")
    prompt, _, negative = "\n".join(lines).partition(NEGATIVE)
    width, _, height = settings.get("Size", "").partition("x")
    return Infotext(
        prompt=prompt.strip(),
        negative=negative.strip(),
        steps=_whole(settings.get("Steps", "")),
        sampler=settings.get("Sampler", ""),
        guidance=_real(settings.get("CFG scale", "")),
        seed=_whole(settings.get("Seed", "")),
        width=_whole(width),
        height=_whole(height),
        model=settings.get("Model", ""),
        variation=_variation(settings),
        adapters=settings.get("Adapters", ""),
        version=settings.get("Version", ""),
    )


def _variation(settings: dict[str, str]) -> Variation | None:
    """None for a strength of 0."""
    seed, strength = _whole(settings.get("Variation seed", "")), _real(settings.get("Variation seed strength", ""))
    return Variation(seed=seed, strength=strength) if seed is not None and strength else None


def _unambiguous(prompt: str) -> str:
    return prompt.strip().replace(NEGATIVE, NEGATIVE.replace(":", " -"))


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,20}", text.strip(), re.ASCII) else None


def _real(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,6}(\.\d{1,9})?", text.strip(), re.ASCII) else None
