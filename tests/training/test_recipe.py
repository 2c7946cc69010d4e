"""The recipes' clocks: a GPU's is done in ten minutes, a processor's knows none."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from training.recipe import CPU, GPU, STYLES, Recipe, Stage


def limits_s(recipe: Recipe) -> float:
    """What all stages together may take; the style's comes once for each."""
    stages = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    limits = {name: stage.limit_s for name, stage in stages.items() if isinstance(stage, Stage)}
    return sum(limits.values()) + (len(STYLES) - 1) * limits["style"] + recipe.ways_limit_s


def test_a_gpus_stages_leave_time_in_ten_minutes_for_what_has_no_limit() -> None:
    assert limits_s(GPU) < 490


@pytest.mark.parametrize("name", ["vae", "text", "base", "native", "lora", "style"])
def test_what_a_processor_makes_depends_on_no_clock(name: str) -> None:
    assert getattr(CPU, name).limit_s == CPU.ways_limit_s == math.inf
