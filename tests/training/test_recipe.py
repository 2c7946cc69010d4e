"""The recipes' clocks: a GPU's is done in ten minutes, a processor's knows none."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from training.pictures import Picture
from training.recipe import CPU, GPU, STYLES, Recipe, Stage
from training.vocabulary import vocabulary


def limits_s(recipe: Recipe) -> float:
    """What all stages together may take; the style's comes once for each."""
    stages = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    limits = {name: stage.limit_s for name, stage in stages.items() if isinstance(stage, Stage)}
    return sum(limits.values()) + (len(STYLES) - 1) * limits["style"] + recipe.ways_limit_s


def test_a_gpus_stages_leave_time_in_ten_minutes_for_what_has_no_limit() -> None:
    assert limits_s(GPU) < 460


def test_of_the_teachers_ways_two_batches_are_walked_however_long_they_take() -> None:
    assert GPU.ways_progress(1, 1e9) == 1 / GPU.ways
    assert GPU.ways_progress(2, 1e9) == GPU.ways_progress(GPU.ways, 0.0) == 1.0
    assert GPU.ways_progress(2, GPU.ways_limit_s / 2) == 0.5


def test_everything_is_a_thousand_emoji() -> None:
    pictures = [
        Picture(label=str(i), tags=(), style=s, code=str(i), group=4) for i in range(1000) for s in ("3d", "flat")
    ]
    assert len(vocabulary(tuple(pictures), everything=True)) == 1000
    with pytest.raises(SystemExit, match=r"pictures of 999 emoji.*1,000"):
        vocabulary(tuple(pictures[2:]), everything=True)
    assert len(vocabulary(tuple(pictures[2:]), everything=False)) == 999


@pytest.mark.parametrize("name", ["vae", "text", "base", "native", "lora", "style"])
def test_what_a_processor_makes_depends_on_no_clock(name: str) -> None:
    assert getattr(CPU, name).limit_s == CPU.ways_limit_s == math.inf
