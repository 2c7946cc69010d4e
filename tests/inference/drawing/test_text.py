"""Prompt embeddings: long prompts are read in parts; weights pull single words, and touch nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference.catalog import Catalog
from inference.catalog.entries import Family
from inference.contract import Unread
from inference.drawing import text
from inference.drawing.batch import by_length, draw_latents
from inference.drawing.models import load_model
from inference.drawing.text import MOST_CHUNKS, Embedding, PromptCache, embed, unread
from inference.loading.clip_words import clip_tokenizer
from inference.memory.model import LoadedModel
from inference.prompts import read_weights
from tests.checkpoints import TinyModels
from tests.inference.batches import batch, row
from tests.layouts import WIDTH, pipeline, save_single_file


@pytest.fixture(params=["tiny", "tiny-xl"])
def model(request: pytest.FixtureRequest, tiny_models: TinyModels) -> LoadedModel:
    """With one text encoder, or two. They read 16 tokens at once; every letter is one."""
    catalog = Catalog.load(tiny_models.catalog)
    entry = catalog[request.param]
    return load_model(catalog, entry, (), device=torch.device("cpu"), precision=torch.float32, on_part=lambda: None)


@pytest.mark.parametrize("name", ["tiny-lora", "tiny-xl-merged"])
def test_once_the_prompts_are_read_the_text_encoders_are_not_needed(
    tiny_models: TinyModels, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.load(tiny_models.catalog)
    model = load_model(catalog, catalog[name], (), device=torch.device("cpu"), precision=torch.float32)
    rows = [
        row(prompt="a" * 30, negative="b", guidance=2.0),
        row(prompt="(a:1.2) b", negative="c", guidance=2.0),
        row(prompt="a", negative="of no effect", guidance=1.0),
    ]
    prompts = PromptCache()
    assert by_length(model, prompts, rows) == [[0], [1, 2]]

    def refuse(*_: object) -> None:
        raise AssertionError("a text encoder was asked")

    monkeypatch.setattr(text, "_encode", refuse)
    for each in rows:
        assert draw_latents(model, prompts, batch(each, model=name), lambda step, estimate: None).std() > 0
        assert unread(model, prompts, each) == Unread()


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


def test_a_long_prompt_is_read_in_parts_that_stand_side_by_side(model: LoadedModel) -> None:
    long, parts = read(model, "abcde fghij klmn opq"), [read(model, prompt) for prompt in ("abcde fghij klmn", "opq")]
    assert (long.chunks, long.unread) == (2, "")
    torch.testing.assert_close(long.tokens, torch.cat([part.tokens for part in parts], dim=1))
    if model.two_encoders:
        assert long.pooled is not None
        torch.testing.assert_close(long.pooled, parts[0].pooled)


def test_weights_reach_into_the_second_part(model: LoadedModel) -> None:
    nothing, plain, weighted = (tokens(model, prompt) for prompt in ("", "a" * 14 + "b c", "a" * 14 + "b (c:1.5)"))
    expected = plain.clone()
    expected[0, 16 + 2] = nothing[0, 2] + 1.5 * (plain[0, 16 + 2] - nothing[0, 2])
    torch.testing.assert_close(weighted, expected)
    assert not torch.allclose(weighted, plain)


@torch.inference_mode()
def test_a_short_prompt_beside_a_long_one_says_nothing_more(model: LoadedModel) -> None:
    prompts = PromptCache()
    short, nothing = prompts.embed(model, "a").tokens, prompts.embed(model, "").tokens
    assert torch.equal(prompts.embed(model, "a", chunks=3).tokens, torch.cat([short, nothing, nothing], dim=1))
    empty = prompts.embed_negative(model, "", chunks=2)
    assert empty.tokens.shape == (1, 32, short.shape[-1])
    assert bool(empty.tokens.any()) is (not model.zero_empty_negative)
    assert torch.equal(prompts.embed_negative(model, "( )", chunks=2).tokens, empty.tokens)


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
    assert read(model, "x" * 14 * (MOST_CHUNKS - 1) + prompt).unread == unread


@torch.inference_mode()
def test_the_embeddings_used_last_are_kept_and_long_ones_count_for_more(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "KEPT_CHUNKS", 4)
    prompts = PromptCache()
    first, second = prompts.embed(model, "a"), prompts.embed(model, "b")
    assert prompts.embed(model, "a") is first
    prompts.embed(model, "c" * 40)  # three chunks: with the first that is all
    assert prompts.embed(model, "a") is first
    assert prompts.embed(model, "b") is not second


@pytest.mark.parametrize("prompt", ["a<|endoftext|>b", "a <|startoftext|> b"])
def test_names_of_tokens_that_somebody_types_are_letters_like_others(model: LoadedModel, prompt: str) -> None:
    said = text._divided(model.text[0].tokenizer, read_weights(prompt)).numbers[0]
    ends = {model.text[0].tokenizer.bos_token_id, model.text[0].tokenizer.eos_token_id}
    assert len(said) == 16
    assert ends.isdisjoint(said[1:-1])


SDXL = """
default = "model"
[models.model]
family = "sdxl"
kind = "merged"
weights = { path = "model.safetensors" }
size = [64, 64]
sides = [64, 64]
"""


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """With CLIP's own words, 75 of which it reads at once. Its second tokenizer takes every “!” for padding."""
    folder = tmp_path_factory.mktemp("sdxl")
    save_single_file(pipeline(Family.SDXL), folder / "model.safetensors")
    (folder / "models.toml").write_text(SDXL)
    catalog = Catalog.load(folder / "models.toml")
    return load_model(catalog, catalog.default, (), device=torch.device("cpu"), precision=torch.float32)


@torch.inference_mode()
def test_both_encoders_of_sdxl_read_the_same_words_in_the_same_places(sdxl: LoadedModel) -> None:
    first, second = sdxl.text
    said = [*first.tokenizer("wow!!! a cat")["input_ids"]]
    assert len(said) == len(["start", "wow", "!!!", "a", "cat", "end"])
    filled = torch.tensor([said + [second.tokenizer.pad_token_id] * (77 - len(said))])
    expected = second.encoder(filled, output_hidden_states=True)
    embedding = read(sdxl, "wow!!! a cat")
    assert torch.equal(embedding.tokens[..., WIDTH:], expected.hidden_states[-2])
    assert embedding.pooled is not None
    assert torch.equal(embedding.pooled, expected[0])


def test_exclamation_marks_where_a_chunk_ends_are_read_in_it(sdxl: LoadedModel) -> None:
    assert read(sdxl, "cat " * 74 + "!!").chunks == 1
    assert read(sdxl, "cat " * 75 + "!!").chunks == 2


@torch.inference_mode()
def test_exclamation_marks_are_words_for_stable_diffusion_2_too_which_fills_up_with_them(tmp_path: Path) -> None:
    save_single_file(pipeline(Family.SD21), tmp_path / "model.safetensors")
    (tmp_path / "models.toml").write_text(SDXL.replace('"sdxl"', '"sd21"') + 'prediction = "v_prediction"')
    catalog = Catalog.load(tmp_path / "models.toml")
    model = load_model(catalog, catalog.default, (), device=torch.device("cpu"), precision=torch.float32)
    for prompt in ("wow!!! a cat !", "a cat"):
        said = clip_tokenizer(77)(prompt)["input_ids"]
        filled = torch.tensor([said + [0] * (77 - len(said))])
        assert torch.equal(read(model, prompt).tokens, model.text[0].encoder(filled)[0])
