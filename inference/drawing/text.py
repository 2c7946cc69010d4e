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
from inference.prompts import Weighted, read_weights


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

    A weight w makes of a token's vector z, and e in the same place of the empty prompt, e + w (z - e), as ComfyUI does
    it. AUTOMATIC1111 scales z itself and then restores the mean of all, which may be next to nothing: the built-in
    models' is.
    """
    meant = read_weights(prompt)
    read = [_encode(stage, meant) for stage in model.text]
    tokens = torch.cat([_states(model, each.output) for each in read], dim=-1)
    weights = read[0].weights  # a second tokenizer divides words like the first
    if (weights != 1).any():
        tokens = torch.lerp(embed(model, "").tokens.float(), tokens.float(), weights.to(tokens.device)).to(tokens.dtype)
    return Embedding(
        tokens=tokens,
        pooled=read[1].output[0] if model.two_encoders else None,
        unread=prompt[min(each.end for each in read) :].strip(),
    )


def unread(model: LoadedModel, prompts: PromptCache, row: Row) -> Unread:
    """What ``model`` did not read of a row's prompts; of a negative prompt nothing matters where that does not act."""
    acts = model.guidance_dim is None and row.guided
    negative = prompts.embed(model, row.negative).unread if acts else ""
    return Unread(prompt=prompts.embed(model, row.prompt).unread, negative=negative)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What an encoder made of a prompt. ``weights``: (1, tokens, 1). ``end``: where in the prompt it stopped."""

    output: Any
    weights: Tensor
    end: int


def _states(model: LoadedModel, output: Any) -> Tensor:
    states: Tensor = output.hidden_states[-2] if model.two_encoders else output[0]
    return states


def _encode(stage: TextStage, prompt: Weighted) -> _Read:
    pieces = stage.tokenizer(
        prompt.text,
        padding="max_length",
        max_length=stage.tokenizer.model_max_length,
        truncation=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    tokens = torch.tensor(pieces["input_ids"][:1], device=stage.encoder.device)
    ends = [end for _, end in pieces["offset_mapping"][0]]  # 0 of what is no word
    read = len(prompt.text) if len(pieces["input_ids"]) == 1 else max(ends)
    return _Read(
        output=stage.encoder(tokens, output_hidden_states=True),
        weights=torch.tensor([prompt.weights[end - 1] if end else 1.0 for end in ends]).reshape(1, -1, 1),
        end=prompt.places[read],
    )
