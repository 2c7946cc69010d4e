"""Prompt embeddings: what the text encoders make of a prompt, kept for the next time it is asked for.

Prompts are encoded one at a time: so an embedding never depends on what else is asked for in the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.contract import Row, Unread
from inference.memory.model import LoadedModel, TextStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """``tokens``: (1, tokens, width). ``pooled``: (1, width) in SDXL's shape, else None. ``unread``: the end of the
    prompt that the encoders did not read."""

    tokens: Tensor
    pooled: Tensor | None
    unread: str


EMBEDDINGS = 256
"""How many are kept: 118 kB each for SD 1.5, 318 kB for SDXL in bf16."""


class PromptCache:
    """The embeddings used last, shared by models that have their text encoders in common."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Embedding] = OrderedDict()

    def embed(self, model: LoadedModel, prompt: str) -> Embedding:
        """The embedding of ``prompt`` with ``model``'s text encoders."""
        key = (*(stage.digest for stage in model.text), prompt)
        if key not in self._kept:
            self._kept[key] = embed(model, prompt)
        self._kept.move_to_end(key)
        if len(self._kept) > EMBEDDINGS:
            self._kept.popitem(last=False)
        return self._kept[key]

    def embed_negative(self, model: LoadedModel, negative: str) -> Embedding:
        """The embedding to lead away from; an empty one is all zeros where the checkpoint was trained so (SDXL)."""
        embedding = self.embed(model, negative)
        if negative or not model.zero_empty_negative or embedding.pooled is None:
            return embedding
        return replace(embedding, tokens=torch.zeros_like(embedding.tokens), pooled=torch.zeros_like(embedding.pooled))


def embed(model: LoadedModel, prompt: str) -> Embedding:
    """Encode ``prompt``, cut after the tokens that the encoders read.

    SD 1.5 takes the last layer; SDXL the last but one of both encoders, side by side, and the second's pooled output.
    """
    outputs, unread = zip(*(_encode(stage, prompt) for stage in model.text), strict=True)
    least_read = max(unread, key=len)
    if not model.two_encoders:
        return Embedding(tokens=outputs[0][0], pooled=None, unread=least_read)
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return Embedding(tokens=tokens, pooled=outputs[1][0], unread=least_read)


def unread(model: LoadedModel, prompts: PromptCache, row: Row) -> Unread:
    """What ``model`` did not read of a row's prompts; of a negative prompt nothing matters where that does not act."""
    acts = model.guidance_dim is None and row.guided
    negative = prompts.embed(model, row.negative).unread if acts else ""
    return Unread(prompt=prompts.embed(model, row.prompt).unread, negative=negative)


def _encode(stage: TextStage, prompt: str) -> tuple[Any, str]:
    """What the encoder makes of a prompt, and the end of it that it does not read."""
    pieces = stage.tokenizer(
        prompt,
        padding="max_length",
        max_length=stage.tokenizer.model_max_length,
        truncation=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    tokens = torch.tensor(pieces["input_ids"][:1], device=stage.encoder.device)
    read = len(prompt) if len(pieces["input_ids"]) == 1 else max(end for _, end in pieces["offset_mapping"][0])
    return stage.encoder(tokens, output_hidden_states=True), prompt[read:].strip()
