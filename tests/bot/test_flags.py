"""Options in the prompt: read as people type them, named where they are unknown, and never stronger than options."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ordering.access import Refused
from bot.ordering.flags import LORA, Options, merged, written
from inference.contract import Adapter
from inference.errors import InferenceError, NotANumber


def test_everything_after_the_prompt_is_taken() -> None:
    typed = "a fox in the snow --ar 3:2 --seed 5 --no blur, text --steps 6 --cfg 1.5 --r 2 --model emoji --spoiler"
    assert merged(Options(prompt=typed)) == Options(
        prompt="a fox in the snow",
        aspect="3:2",
        seed=5,
        negative="blur, text",
        steps=6,
        guidance=1.5,
        count=2,
        model="emoji",
        spoiler=True,
    )


@pytest.mark.parametrize("dash", ["--", "---", "—", "–", "——", "—-", "－－", "−−"])
@pytest.mark.parametrize("between", [" ", "="])
def test_any_keyboards_dash_is_understood(dash: str, between: str) -> None:
    assert merged(Options(prompt=f"a fox {dash}seed{between}5")).seed == 5


@pytest.mark.parametrize(
    "prompt", ["a well-known fox", "snow — and a fox", "1--2", "a fox -- running", "a--b", "雪——fox", "a fox －b"]
)
def test_hyphens_and_dashes_of_a_sentence_stay(prompt: str) -> None:
    assert merged(Options(prompt=prompt)) == Options(prompt=prompt)


def test_an_option_wins_over_a_flag() -> None:
    options = merged(Options(prompt="a fox --seed 5 --steps 2", seed=7))
    assert (options.seed, options.steps) == (7, 2)


def test_loras_are_taken_as_the_web_ui_writes_them() -> None:
    options = merged(Options(prompt="a <lora:flat:0.8> fox --lora ink:0,5 --lora bold"))
    assert options.prompt.split() == ["a", "fox"]
    assert options.adapters == (
        Adapter(name="flat", strength=0.8),
        Adapter(name="ink", strength=0.5),
        Adapter(name="bold"),
    )


@pytest.mark.parametrize("written", ["<LORA:ink:0.8>", "<lora:ink:.8>", "<lora:ink: 0.8>", "<Lora: ink :,8 >"])
def test_a_lora_is_read_however_people_write_it(written: str) -> None:
    options = merged(Options(prompt=f"a fox {written}"))
    assert (options.prompt, options.adapters) == ("a fox", (Adapter(name="ink", strength=0.8),))


def test_a_lora_option_wins_over_the_same_in_the_prompt() -> None:
    options = merged(Options(prompt="a fox <lora:flat:0.8>", adapters=(Adapter(name="flat", strength=0.2),)))
    assert options.adapters == (Adapter(name="flat", strength=0.2),)


@pytest.mark.parametrize(
    ("prompt", "strength"),
    [
        ("a fox <lora:ink:0.5> --lora ink:1", 1.0),
        ("a <lora:ink:2> fox <lora:ink:1.5>", 1.5),
        ("a fox --lora ink:2 --lora ink:0.5", 0.5),
    ],
)
def test_a_lora_that_is_named_twice_is_merged_once(prompt: str, strength: float) -> None:
    assert merged(Options(prompt=prompt)).adapters == (Adapter(name="ink", strength=strength),)


def test_a_strength_is_for_the_one_lora_of_the_prompt() -> None:
    options = merged(Options(prompt="a fox <lora:ink>", strength=0.3))
    assert (options.adapters, options.strength) == ((Adapter(name="ink", strength=0.3),), None)


@pytest.mark.parametrize("prompt", ["a fox", "a fox <lora:ink> <lora:flat>"])
def test_a_strength_of_no_lora_in_particular_is_refused(prompt: str) -> None:
    with pytest.raises(Refused, match="is for one LoRA"):
        merged(Options(prompt=prompt, strength=0.3))


def test_an_unknown_flag_is_named() -> None:
    with pytest.raises(Refused, match=r"I do not know `--stylize`.*`--seed`"):
        merged(Options(prompt="a fox --stylize 100"))


@pytest.mark.parametrize("flags", ["--seed seven", "--steps 2.5", "--cfg much", "--seed", "<lora:flat:strong>"])
def test_a_value_that_is_no_number_is_named(flags: str) -> None:
    with pytest.raises(InferenceError) as refusal:
        merged(Options(prompt=f"a fox {flags}"))
    assert isinstance(refusal.value.failure, NotANumber)


def test_words_after_a_switch_are_not_swallowed() -> None:
    with pytest.raises(Refused, match="takes no value; “in the snow”"):
        merged(Options(prompt="a fox --spoiler in the snow"))


def test_a_switch_may_stand_before_another_flag() -> None:
    options = merged(Options(prompt="a fox --spoiler --seed 5"))
    assert (options.spoiler, options.seed) == (True, 5)


def test_two_negatives_are_both_heard() -> None:
    assert merged(Options(prompt="a fox --no blur --no text")).negative == "blur, text"
    assert merged(Options(prompt="a fox --no blur", negative="worms, text")).negative == "worms, text, blur"


@given(
    st.builds(
        Options,
        prompt=st.just("a fox"),
        model=st.none() | st.just("emoji"),
        aspect=st.none() | st.sampled_from(["3:2", "512x768"]),
        count=st.none() | st.integers(1, 4),
        steps=st.none() | st.integers(1, 50),
        guidance=st.none() | st.sampled_from([1.0, 1.5, 8.25, 1.2345678]),
        seed=st.none() | st.integers(0, 2**32 - 1),
        vary=st.none() | st.sampled_from([0.0, 0.2, 0.123456789, 0.000001, 1.0]),
        vary_seed=st.none() | st.integers(-1, 2**32 - 1),
        adapters=st.sampled_from([(), *((Adapter(name="flat", strength=number),) for number in (-0.25, 0.00005))]),
        spoiler=st.none() | st.just(True),
    )
)
def test_what_is_written_reads_back(options: Options) -> None:
    assert merged(Options(prompt=f"a fox {written(options)}")) == options


@given(st.text())
def test_any_prompt_is_read_or_refused(prompt: str) -> None:
    with suppress(Refused, InferenceError):
        assert merged(Options(prompt=prompt)).prompt in LORA.sub(" ", prompt)
