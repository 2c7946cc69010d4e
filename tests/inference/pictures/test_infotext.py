"""Other programs' texts: hostile ones, too."""

from __future__ import annotations

import pytest

from inference.contract import Variation
from inference.pictures.infotext import Infotext, read, write
from inference.pictures.recipe import MAX_TEXT


@pytest.mark.timeout(20)
@pytest.mark.parametrize("hostile", ["a" + " " * MAX_TEXT + "!", "a " * MAX_TEXT, 'ab:"' * MAX_TEXT, "a:" * MAX_TEXT])
def test_no_text_takes_long_to_read(hostile: str) -> None:
    """While a regular expression searches, nothing else in the process runs."""
    with pytest.raises(ValueError, match="no settings"):
        read(hostile[:MAX_TEXT])


def test_the_web_uis_own_text_is_read() -> None:
    text = (
        "a fox, (detailed:1.2)\nNegative prompt: blur\nSteps: 6, Sampler: LCM, Schedule type: SGM Uniform, "
        'CFG scale: 1.5, Seed: 7, Size: 512x768, Model hash: 31e35c80fc, Model: sd_xl, Lora hashes: "a: 1, b: 2", '
        "Version: v1.10.1"
    )
    found = read(text)
    assert (found.prompt, found.negative, found.model) == ("a fox, (detailed:1.2)", "blur", "sd_xl")
    assert (found.steps, found.guidance, found.seed, found.width, found.height) == (6, 1.5, 7, 512, 768)


def test_a_variation_stands_where_the_web_ui_has_it() -> None:
    variation = Variation(seed=0, strength=0.2)
    info = Infotext(prompt="a fox", steps=4, seed=7, width=8, height=8, model="m", variation=variation)
    line = "Steps: 4, Seed: 7, Size: 8x8, Model: m, Variation seed: 0, Variation seed strength: 0.2, RNG: CPU"
    assert write(info).splitlines()[-1] == line
    assert read(write(info)) == info


@pytest.mark.parametrize("said", ["Variation seed: 5", "Variation seed: 5, Variation seed strength: 0"])
def test_a_variation_without_a_strength_is_none(said: str) -> None:
    assert read(f"a fox\nSteps: 4, Seed: 7, Size: 8x8, {said}").variation is None
