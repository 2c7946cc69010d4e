"""What brackets in prompts mean: AUTOMATIC1111's notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.prompts import beginning, literally, read_weights

BRACKETED = st.text(st.sampled_from("()[]\\:.123 ab,"), max_size=60)


def weights_of(prompt: str) -> dict[str, float]:
    """The weight of every character that is not a space; each stands once in the prompts here."""
    meant = read_weights(prompt)
    return {
        character: pytest.approx(weight)
        for character, weight in zip(meant.text, meant.weights, strict=True)
        if not character.isspace()
    }


@pytest.mark.parametrize(
    ("prompt", "weights"),
    [
        ("a b", {"a": 1, "b": 1}),
        ("a (b) c", {"a": 1, "b": 1.1, "c": 1}),
        ("a [b] c", {"a": 1, "b": 1 / 1.1, "c": 1}),
        ("a (b:1.3) c", {"a": 1, "b": 1.3, "c": 1}),
        ("( b : .5 )", {"b": 0.5}),
        ("(b:-1)", {"b": -1}),
        ("((b) c)", {"b": 1.21, "c": 1.1}),
        ("((b:2) c:3)", {"b": 6, "c": 3}),
        ("[(b:2)]", {"b": 2 / 1.1}),
        ("(b(c)", {"(": 1, "b": 1, "c": 1.1}),  # nothing closes the first
        ("b) c]", {"b": 1, ")": 1, "c": 1, "]": 1}),
        ("(b [c) d]", {"b": 1.1, "[": 1.1, "c": 1.1, "d": 1, "]": 1}),
        (r"b \(c\)", {"b": 1, "(": 1, "c": 1, ")": 1}),
        (r"(b\):2)", {"b": 2, ")": 2}),
        ("b :3)", {"b": 1, ":": 1, "3": 1, ")": 1}),
        ("(b:1.2.3)", {"b": 1.1, ":": 1.1, "1": 1.1, ".": 1.1, "2": 1.1, "3": 1.1}),
    ],
)
def test_brackets_weigh_what_is_in_them(prompt: str, weights: dict[str, float]) -> None:
    assert weights_of(prompt) == weights


def test_words_that_a_bracket_parts_are_two() -> None:
    assert read_weights("cat(sitting)down").text == "cat sitting down"


def test_every_character_is_known_by_its_place() -> None:
    prompt = r"a (b:1.3) \(c"
    meant = read_weights(prompt)
    assert meant.text == "a  b  (c"
    assert [prompt[place] for place in meant.places[:-1]] == ["a", " ", "(", "b", ":", " ", "(", "c"]
    assert meant.places[-1] == len(prompt)


@pytest.mark.parametrize(
    ("prompt", "characters", "kept"),
    [("a cat", 9, "a cat"), ("a cat", 5, "a cat"), ("a cat", 3, "a c"), (r"\(a\) b", 3, r"\(a\)"), ("(a) b", 2, "(a")],
)
def test_a_prompt_is_cut_after_so_many_characters_that_are_read(prompt: str, characters: int, kept: str) -> None:
    assert beginning(prompt, characters) == kept


@given(st.text())
def test_what_is_meant_literally_is_read_as_it_stands(text: str) -> None:
    meant = read_weights(literally(text))
    assert meant.text == text
    assert set(meant.weights) <= {1.0}


@given(BRACKETED)
def test_whatever_is_typed_can_be_read(prompt: str) -> None:
    meant = read_weights(prompt)
    assert len(meant.text) == len(meant.weights) == len(meant.places) - 1
    assert list(meant.places) == sorted(set(meant.places))
    kept = [(character, place) for character, place in zip(meant.text, meant.places, strict=False) if character != " "]
    assert all(prompt[place] == character for character, place in kept)
