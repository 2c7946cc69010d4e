"""A small CLIP tokenizer, trained on the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

LENGTH = 32
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def learn(captions: Iterable[str], folder: Path, size: int = 2816) -> CLIPTokenizer:
    """Learn a vocabulary of at most ``size`` tokens and write the tokenizer to ``folder``, with ``vocab.json`` and
    ``merges.txt`` beside what transformers writes: diffusers' older readers need them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    endings = [letter + "</w>" for letter in letters]
    merges = _merges(captions, letters, endings, size - len(SPECIAL))
    vocabulary: dict[str, int] = {}
    for token in (*letters, *endings, *(a + b for a, b in merges), *SPECIAL):
        vocabulary.setdefault(token, len(vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    names, pairs = folder / "vocab.json", folder / "merges.txt"
    names.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    pairs.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer = CLIPTokenizer(str(names), str(pairs), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


class Reader:
    """Turns captions into token ids and caches them: training asks for the same ones over and over.

    All are kept, because there are few: two phrases per variant, each alone or, if no colour was given, with one or two
    tags out of at most six. That makes 330,000 for 1,010 emoji, less than a kilobyte each; a third of them comes up.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, Tensor] = {}

    def ids(self, captions: Iterable[str]) -> Tensor:
        """Token ids (B, LENGTH)."""
        asked = tuple(captions)
        new = [caption for caption in dict.fromkeys(asked) if caption not in self.known]
        if new:
            self.known.update(zip(new, self._ids(new), strict=True))
        return torch.stack([self.known[caption] for caption in asked])

    def _ids(self, captions: list[str]) -> Tensor:
        read = self.tokenizer(
            captions, padding="max_length", max_length=LENGTH, truncation=True, return_attention_mask=False
        )
        return torch.tensor(read.input_ids)  # takes half as long as the tokenizer's own conversion to a tensor


def _merges(captions: Iterable[str], letters: list[str], endings: list[str], size: int) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=endings,  # numbered at random otherwise, and the numbers decide between pairs of equal counts
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    pairs = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in pairs]
