"""CLIP's tokenizer, which every Stable Diffusion model uses and no single-file checkpoint contains.

``clip_merges.txt.gz`` holds the byte-pair merges of OpenAI's CLIP (github.com/openai/CLIP, MIT licence, as used by its
simple tokenizer); the vocabulary follows from them.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

MERGES = Path(__file__).with_name("clip_merges.txt.gz")
START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(length: int, padding: str = END) -> Any:
    """The tokenizer for prompts of up to ``length`` tokens, padded with ``padding``."""
    vocabulary, merges = _words()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length, pad_token=padding)


@lru_cache(maxsize=1)
def _words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    merges = [_pair(line) for line in gzip.decompress(MERGES.read_bytes()).decode("utf-8").split("\n")]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in merges)]
    return {word: index for index, word in enumerate([*words, START, END])}, merges


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split(" ")
    return first, second


def _letters() -> list[str]:
    """A printable character for each byte, in the order of CLIP's vocabulary: bytes that are printable come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + index) for index in range(256 - len(printable)))]
