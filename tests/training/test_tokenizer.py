"""Captions become token numbers: the tokenizer's own, looked up where a caption comes again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from training import tokenizer
from training.tokenizer import LENGTH, Reader

CAPTIONS = ["a red apple", "", "owl", "a red apple", "owl, night, " + "bird " * 40]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return tokenizer.learn(CAPTIONS, tmp_path_factory.mktemp("tokenizer"), size=600)


def test_numbers_are_the_tokenizers_own_when_captions_come_again_too(learnt: CLIPTokenizer) -> None:
    plain = learnt(CAPTIONS, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    reader = Reader(learnt)
    for _ in range(2):
        assert torch.equal(reader.ids(CAPTIONS), plain)
    assert torch.equal(reader.ids(reversed(CAPTIONS)), plain.flip(0))


def test_numbers_that_were_given_can_be_changed(learnt: CLIPTokenizer) -> None:
    reader = Reader(learnt)
    before = reader.ids(["owl"])
    reader.ids(["owl"]).zero_()
    assert torch.equal(reader.ids(["owl"]), before)


def test_the_same_captions_always_give_the_same_tokenizer(tmp_path: Path) -> None:
    ties = ["".join(pair) for pair in itertools.permutations("abcdefgh", 2)] * 2
    for attempt in "12345":
        tokenizer.learn(ties, tmp_path / attempt, size=560)
    assert len({(tmp_path / attempt / "merges.txt").read_bytes() for attempt in "12345"}) == 1
    assert len(json.loads((tmp_path / "1" / "vocab.json").read_text(encoding="utf-8"))) == 560


class Counted:
    """A tokenizer that knows what it has read."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer, self.read = tokenizer, list[str]()

    def __call__(self, captions: list[str], **options: Any) -> Any:
        self.read += captions
        return self.tokenizer(captions, **options)


def test_a_caption_is_tokenised_once(learnt: CLIPTokenizer) -> None:
    counted = Counted(learnt)
    reader = Reader(counted)
    for _ in range(3):
        reader.ids(CAPTIONS)
    assert sorted(counted.read) == sorted(set(CAPTIONS))
