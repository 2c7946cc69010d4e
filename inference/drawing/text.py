"""Prompt embeddings: the text encoders' output for a prompt, cached for the next time.

Prompts are encoded one at a time, so an embedding never depends on the other prompts of a batch.
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
    """``tokens``: (1, chunks × tokens, width). ``pooled``: (1, width) for SDXL, else None. ``unread``: the end of the
    prompt that the encoders did not read."""

    tokens: Tensor
    pooled: Tensor | None
    chunks: int
    unread: str


KEPT_CHUNKS = 256
"""Maximum chunks of all cached embeddings together; each takes 118 kB for SD 1.5, 318 kB for SDXL in bf16."""
MOST_CHUNKS = 4
"""Maximum chunks that are read of a prompt: 300 tokens of CLIP."""


class PromptCache:
    """The most recently used embeddings, shared by models that have the same text encoders."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Embedding] = OrderedDict()

    def embed(self, model: LoadedModel, prompt: str, *, chunks: int = 1) -> Embedding:
        """The embedding of ``prompt`` by ``model``'s text encoders, padded to at least ``chunks`` chunks."""
        embedding = self._found(model, prompt)
        if (lacking := chunks - embedding.chunks) <= 0:
            return embedding
        silence = [self._found(model, "").tokens] * lacking
        return replace(embedding, tokens=torch.cat([embedding.tokens, *silence], dim=1), chunks=chunks)

    def embed_negative(self, model: LoadedModel, negative: str, *, chunks: int = 1) -> Embedding:
        """The embedding of a negative prompt; an empty one is all zeros where the checkpoint was trained so (SDXL)."""
        embedding = self.embed(model, negative, chunks=chunks)
        says = read_weights(negative).text.strip()
        if says or not model.zero_empty_negative or embedding.pooled is None:
            return embedding
        return replace(embedding, tokens=torch.zeros_like(embedding.tokens), pooled=torch.zeros_like(embedding.pooled))

    def read(self, model: LoadedModel, row: Row) -> int:
        """Embed all that a row needs, so that the text encoders are not needed for it any more.

        Returns the number of chunks for its prompts, the larger of the two: both passes take the same number.
        """
        prompts = (row.prompt, row.negative) if _negative_acts(model, row) else (row.prompt,)
        counts = [self._found(model, prompt).chunks for prompt in prompts]
        if len(set(counts)) > 1:
            self._found(model, "")
        return max(counts)

    def _found(self, model: LoadedModel, prompt: str) -> Embedding:
        key = (*(stage.digest for stage in model.text), prompt)
        if key not in self._kept:
            self._kept[key] = embed(model, prompt)
            while sum(embedding.chunks for embedding in self._kept.values()) > KEPT_CHUNKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def embed(model: LoadedModel, prompt: str) -> Embedding:
    """Encode ``prompt``, truncated after ``MOST_CHUNKS``.

    SD 1.5 takes the last layer's states; SDXL the penultimate layer's of both encoders, concatenated along the width,
    and the second's pooled output. Longer prompts are read in chunks, each with its own start and end token, whose
    states are concatenated along the tokens, as in AUTOMATIC1111; ``pooled`` is the first chunk's.

    A weight w turns a token's vector z into e + w (z - e), where e is the empty prompt's vector in the same place, as
    in ComfyUI. AUTOMATIC1111 scales z itself and then restores the mean of all, which may be next to nothing, as it is
    for the built-in models.
    """
    words = _divided(model.text[0].tokenizer, read_weights(prompt))
    outputs = [_encode(stage, words) for stage in model.text]
    tokens = torch.cat([_states(model, output) for output in outputs], dim=-1)
    if (words.weights != 1).any():
        empty = embed(model, "").tokens
        tokens = torch.lerp(empty.float(), tokens.float(), words.weights.to(tokens.device)).to(tokens.dtype)
    return Embedding(
        tokens=tokens.flatten(0, 1).unsqueeze(0),
        pooled=outputs[1][0][:1] if model.two_encoders else None,
        chunks=len(tokens),
        unread=prompt[words.end :].strip(),
    )


def unread(model: LoadedModel, prompts: PromptCache, row: Row) -> Unread:
    """What ``model`` did not read of a row's prompts; a negative prompt counts only where it has an effect."""
    negative = prompts.embed(model, row.negative).unread if _negative_acts(model, row) else ""
    return Unread(prompt=prompts.embed(model, row.prompt).unread, negative=negative)


def _negative_acts(model: LoadedModel, row: Row) -> bool:
    return model.guidance_dim is None and row.guided


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """A prompt as all encoders of a model read it, which share one vocabulary.

    ``numbers``: token ids of each chunk, with its start and end token. ``length``: of a padded chunk. ``weights``:
    (chunks, length, 1). ``end``: where in the prompt the last chunk ends.
    """

    numbers: tuple[tuple[int, ...], ...]
    length: int
    weights: Tensor
    end: int


def _divided(tokenizer: Any, prompt: Weighted) -> _Words:
    said = tokenizer(
        prompt.text,
        add_special_tokens=False,
        split_special_tokens=True,  # “!”, which some pad with, and “<|endoftext|>” are ordinary words when typed
        return_offsets_mapping=True,
        verbose=False,
    )
    ends = [end for _, end in said["offset_mapping"]]
    length = tokenizer.model_max_length
    room = length - 2
    count = min(max(1, -(-len(ends) // room)), MOST_CHUNKS)
    parts = [slice(chunk * room, (chunk + 1) * room) for chunk in range(count)]
    weights = torch.ones(count, length, 1)
    for chunk, part in enumerate(parts):
        weighed = torch.tensor([prompt.weights[end - 1] for end in ends[part]])
        weights[chunk, 1 : len(weighed) + 1, 0] = weighed
    return _Words(
        numbers=tuple((tokenizer.bos_token_id, *said["input_ids"][part], tokenizer.eos_token_id) for part in parts),
        length=length,
        weights=weights,
        end=prompt.places[ends[count * room - 1] if len(ends) > count * room else -1],
    )


def _encode(stage: TextStage, words: _Words) -> Any:
    """Encode the chunks, padded with this encoder's padding token.

    Nothing else of its tokenizer is used: SDXL's second one pads with “!” and reads each “!” as a token of its own.
    """
    tokens = torch.full((len(words.numbers), words.length), stage.tokenizer.pad_token_id)
    for row, numbers in zip(tokens, words.numbers, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    encoder = stage.encoder
    return encoder(tokens.to(next(encoder.parameters()).device), output_hidden_states=True)


def _states(model: LoadedModel, output: Any) -> Tensor:
    states: Tensor = output.hidden_states[-2] if model.two_encoders else output[0]
    return states
