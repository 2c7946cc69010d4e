"""Self-attention on a CPU, as matrix products of many rows at once.

torch's own kernel multiplies small tiles, which is slow in bf16 on processors with AVX512-BF16 but without AMX (AMD's
since Zen 4). There, whole rows of scores take half to three quarters of the time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from inference.devices import cpu_computes_bf16

WORTH = 256
"""Tokens from which whole rows are clearly faster."""
BLOCK = 2**20
"""Scores that are computed at once, for each thread: 2 MiB, to stay in the caches."""


def attend_in_rows(network: nn.Module) -> None:
    """Make the self-attention layers of ``network`` compute whole rows of scores, if that is faster on this processor.

    Scores are rounded to the precision of the network, unlike in torch's kernel. Layers whose configuration wants them
    more precise are left as they are.
    """
    if is_faster():
        for layer in network.modules():
            if isinstance(layer, Attention) and _is_plain(layer):
                layer.set_processor(_WholeRows())


def is_faster() -> bool:
    """Whether whole rows are faster on this processor. For those with AMX, torch's kernel has code of its own."""
    return cpu_computes_bf16() and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √channels) · value.

    All are of the shape (batch, heads, tokens, channels), and the result is, too; in memory it is (batch, tokens,
    heads, channels). No row's bits depend on its company in the batch.
    """
    batch, heads, tokens, channels = query.shape
    keys = key.shape[2]
    block = BLOCK * torch.get_num_threads()
    rows = min(tokens, max(1, block // keys))
    together = min(heads, max(1, block // (rows * keys)))
    scores = query.new_empty(together, rows, keys)
    result = query.new_empty(batch, tokens, heads, channels).transpose(1, 2)
    for row in range(batch):
        for head in range(0, heads, together):
            of_heads = slice(head, min(head + together, heads))
            for first in range(0, tokens, rows):
                some = query[row, of_heads, first : first + rows]
                room = slice(0, some.shape[0]), slice(0, some.shape[1])
                turned = key[row, of_heads].transpose(1, 2)
                torch.baddbmm(scores[room], some, turned, beta=0, alpha=1 / math.sqrt(channels), out=scores[room])
                torch._softmax(scores[room], -1, False, out=scores[room])
                torch.bmm(scores[room], value[row, of_heads], out=result[row, of_heads, first : first + rows])
    return result


class _WholeRows(AttnProcessor2_0):  # type: ignore[misc]
    """diffusers' processor, with self-attention over many tokens computed by ``attend``."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        is_map = hidden_states.ndim == 4  # (batch, channels, height, width), in an autoencoder
        sides = hidden_states.shape[2:] if is_map else hidden_states.shape[1:2]
        is_plain = encoder_hidden_states is None and attention_mask is None
        if not (is_plain and _pays(math.prod(sides), hidden_states.dtype)):
            result: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return result
        tokens = hidden_states.flatten(2).transpose(1, 2) if is_map else hidden_states
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        projected = (layer(tokens).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        attended = attend(*(heads.transpose(1, 2) for heads in projected))
        output: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        if is_map:
            output = output.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            output = output + hidden_states
        return output if attn.rescale_output_factor == 1 else output / attn.rescale_output_factor


def _is_plain(layer: Any) -> bool:
    """Whether the layer does what ``_WholeRows`` does, and no more."""
    extras = (layer.spatial_norm, layer.norm_q, layer.norm_k)
    return all(extra is None for extra in extras) and not layer.upcast_attention


def _pays(tokens: int, precision: torch.dtype) -> bool:
    """Compiled code has kernels of its own."""
    return tokens >= WORTH and precision is torch.bfloat16 and not torch.compiler.is_compiling()
