"""Prompt embeddings: weights in prompts pull single words towards what they mean, and touch nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference.catalog import Catalog
from inference.drawing.models import load_model
from inference.drawing.text import Embedding, embed
from inference.memory.model import LoadedModel
from tests.checkpoints import TinyModels


@pytest.fixture(params=["tiny", "tiny-xl"])
def model(request: pytest.FixtureRequest, tiny_models: TinyModels) -> LoadedModel:
    """With one text encoder, or two. They read 16 tokens; every letter is one."""
    catalog = Catalog.load(tiny_models.catalog)
    entry = catalog[request.param]
    return load_model(catalog, entry, (), device=torch.device("cpu"), precision=torch.float32, on_part=lambda: None)


def read(model: LoadedModel, prompt: str) -> Embedding:
    with torch.inference_mode():
        return embed(model, prompt)


def tokens(model: LoadedModel, prompt: str) -> Tensor:
    return read(model, prompt).tokens


def test_a_weight_counts_from_the_empty_prompt_and_for_its_word_alone(model: LoadedModel) -> None:
    """The first token is the prompt's beginning, the next ones are the letters."""
    nothing, plain, weighted = (tokens(model, prompt) for prompt in ("", "a b c", "a (b:1.5) c"))
    expected = plain.clone()
    expected[0, 2] = nothing[0, 2] + 1.5 * (plain[0, 2] - nothing[0, 2])
    assert not torch.allclose(plain, expected)
    torch.testing.assert_close(weighted, expected)
    others = [place for place in range(16) if place != 2]
    assert torch.equal(weighted[:, others], plain[:, others])


def test_a_word_without_weight_is_the_empty_prompts(model: LoadedModel) -> None:
    assert torch.equal(tokens(model, "a (b:0) c")[0, 2], tokens(model, "")[0, 2])


def test_a_weight_of_one_and_brackets_that_are_meant_as_such_change_nothing(model: LoadedModel) -> None:
    assert torch.equal(tokens(model, "a (b:1) c"), tokens(model, "a b c"))
    assert torch.equal(tokens(model, r"a\(b"), tokens(model, "a(b"))
    assert not torch.equal(tokens(model, r"a\(b"), tokens(model, "ab"))


def test_the_pooled_embedding_knows_no_weights(model: LoadedModel) -> None:
    plain, weighted = read(model, "a b").pooled, read(model, "a (b:2)").pooled
    assert (plain is None) == (weighted is None) == (not model.two_encoders)
    if plain is not None and weighted is not None:
        assert torch.equal(plain, weighted)


@pytest.mark.parametrize(
    ("prompt", "unread"),
    [
        ("(abcde:1.2) [fghij] ((klmn))", ""),
        ("(abcde:1.2) [fghij] ((klmno))", "o))"),
        (r"\(bcde fghij (klmno pq:1.3)", "o pq:1.3)"),
    ],
)
def test_brackets_take_no_tokens_and_what_is_not_read_is_told_as_it_was_typed(
    model: LoadedModel, prompt: str, unread: str
) -> None:
    assert read(model, prompt).unread == unread
