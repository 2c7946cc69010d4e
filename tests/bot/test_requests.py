"""From options to an order: defaults come from the model, and whatever cannot be drawn is refused with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import requests
from bot.requests import Options
from inference.catalog import Catalog
from inference.contract import MAX_SEED
from inference.errors import (
    InferenceError,
    OutOfRange,
    PromptEmpty,
    PromptTooLong,
    SizeNotPossible,
    SizeUnreadable,
    UnknownModel,
)


def test_the_models_own_values_fill_what_was_not_given(catalog: Catalog) -> None:
    request = requests.imagine(Options(prompt="a red apple"), catalog, random_seed=7)
    assert (request.model, request.seed, request.count) == ("quick", 7, 1)
    assert (request.steps, request.guidance, request.width, request.height) == (4, 8.0, 64, 64)


def test_what_was_given_wins(catalog: Catalog) -> None:
    options = Options(prompt="x", model="guided", seed=0, count=4, steps=2, guidance=1.5, size="96x32")
    request = requests.imagine(options, catalog, random_seed=7)
    assert (request.model, request.seed, request.count, request.steps) == ("guided", 0, 4, 2)
    assert (request.guidance, request.width, request.height) == (1.5, 96, 32)


@pytest.mark.parametrize("size", ["96x64", "96 X 64", " 96×64 ", "96*64"])
def test_a_size_is_read_however_people_write_it(catalog: Catalog, size: str) -> None:
    request = requests.imagine(Options(prompt="x", size=size), catalog, random_seed=7)
    assert (request.width, request.height) == (96, 64)


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        (Options(prompt="  \n "), PromptEmpty),
        (Options(prompt="x" * 3000), PromptTooLong),
        (Options(prompt="x", model="nope"), UnknownModel),
        (Options(prompt="x", seed=MAX_SEED + 1), OutOfRange),
        (Options(prompt="x", seed=-1), OutOfRange),
        (Options(prompt="x", count=0), OutOfRange),
        (Options(prompt="x", count=5), OutOfRange),
        (Options(prompt="x", steps=0), OutOfRange),
        (Options(prompt="x", guidance=float("nan")), OutOfRange),
        (Options(prompt="x", size="60x64"), SizeNotPossible),
        (Options(prompt="x", size="4096x4096"), SizeNotPossible),
        (Options(prompt="x", size="big"), SizeUnreadable),
    ],
)
def test_what_cannot_be_drawn_is_refused(catalog: Catalog, options: Options, failure: type[object]) -> None:
    with pytest.raises(InferenceError) as refusal:
        requests.imagine(options, catalog, random_seed=7)
    assert isinstance(refusal.value.failure, failure)
    assert str(refusal.value).endswith((".", "!"))


@given(prompt=st.text(max_size=1200), size=st.none() | st.text(max_size=12), seed=st.none() | st.integers())
def test_any_input_gives_an_order_or_a_refusal(prompt: str, size: str | None, seed: int | None) -> None:
    from tests.bot.conftest import a_catalog

    try:
        request = requests.imagine(Options(prompt=prompt, size=size, seed=seed), a_catalog(), random_seed=7)
    except InferenceError:
        return
    assert request.prompt == " ".join(prompt.split())


def test_a_reroll_changes_the_seed_alone(catalog: Catalog) -> None:
    first = replace(requests.imagine(Options(prompt="x", count=2), catalog, random_seed=7), bucket=2)
    assert requests.reroll(first, catalog, random_seed=8) == replace(first, seed=8, bucket=None)


def test_the_same_seed_keeps_the_bucket_of_the_first_drawing(catalog: Catalog) -> None:
    first = requests.imagine(Options(prompt="x"), catalog, random_seed=7)
    assert requests.same_seed(first, catalog, bucket=4) == replace(first, bucket=4)


def test_an_edit_changes_the_prompt_alone(catalog: Catalog) -> None:
    first = requests.imagine(Options(prompt="x"), catalog, random_seed=7)
    assert requests.edited(first, catalog, prompt=" a  pear ") == replace(first, prompt="a pear")


def test_an_old_order_for_a_model_that_is_gone_is_refused(catalog: Catalog) -> None:
    old = replace(requests.imagine(Options(prompt="x"), catalog, random_seed=7), model="gone")
    with pytest.raises(InferenceError, match="no model “gone”"):
        requests.reroll(old, catalog, random_seed=8)


def test_models_are_suggested_by_title_and_name(catalog: Catalog) -> None:
    assert [name for _, name in requests.suggest_models("", catalog)] == ["quick", "guided"]
    assert requests.suggest_models("GUI", catalog) == [("With guidance (guided)", "guided")]
    assert requests.suggest_models("zebra", catalog) == []
