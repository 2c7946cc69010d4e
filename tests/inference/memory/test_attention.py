"""Attention in whole rows: what torch's own computes, whatever the shape, and the same bits in any company."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from inference.memory import attention
from inference.memory.attention import attend, attend_in_rows

BF16 = torch.bfloat16
SIDE = 24
"""Of latents in which one level of a network has enough tokens, and the next has not."""


@pytest.fixture
def on_a_fit_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "is_faster", lambda: True)


def heads(batch: int, count: int, tokens: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, count, channels, generator=generator).transpose(1, 2).to(BF16)


def error(of: Tensor, truth: Tensor) -> float:
    """Relative to the truth's own size, as root mean squares."""
    return ((of.float() - truth).norm() / truth.norm()).item()


@given(
    batch=st.integers(1, 3),
    count=st.integers(1, 5),
    tokens=st.integers(1, 40),
    keys=st.integers(1, 40),
    channels=st.sampled_from([1, 8, 40]),
    block=st.integers(1, 4000),
)
def test_it_computes_attention_in_blocks_of_any_size(
    batch: int, count: int, tokens: int, keys: int, channels: int, block: int
) -> None:
    query, key, value = (
        heads(batch, count, tokens, channels, 1),
        *(heads(batch, count, keys, channels, s) for s in (2, 3)),
    )
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(attention, "BLOCK", block)
        found = attend(query, key, value)
    truth = scaled_dot_product_attention(query.float(), key.float(), value.float())
    assert found.shape == truth.shape
    assert (found - truth).abs().max() < 0.05, "the values that are averaged are of the order of 1"


@given(batch=st.integers(1, 4), count=st.integers(1, 4), tokens=st.integers(1, 300), place=st.integers(0, 3))
def test_a_row_is_the_same_in_any_company(batch: int, count: int, tokens: int, place: int) -> None:
    place %= batch
    query, key, value = (heads(batch, count, tokens, 40, seed) for seed in (1, 2, 3))
    alone = slice(place, place + 1)
    with torch.inference_mode():
        assert torch.equal(attend(query, key, value)[alone], attend(query[alone], key[alone], value[alone]))


def denoiser(*, upcast: bool = False) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=32,
        upcast_attention=upcast,
    )


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)


def predicted(network: UNet2DConditionModel) -> Tensor:
    precision = network.dtype
    latents, text = (
        torch.randn(shape, generator=torch.Generator().manual_seed(5)) for shape in ((2, 4, SIDE, SIDE), (2, 77, 32))
    )
    result: Tensor = network(latents.to(precision), 500, text.to(precision)).sample
    return result


def decoded(network: AutoencoderKL) -> Tensor:
    latents = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    result: Tensor = network.decode(latents.to(network.dtype)).sample
    return result


@pytest.mark.usefixtures("on_a_fit_processor")
@pytest.mark.parametrize(("make", "drawn"), [(denoiser, predicted), (autoencoder, decoded)])
def test_a_network_computes_what_it_does_with_torchs_attention(
    make: Callable[[], nn.Module], drawn: Callable[[nn.Module], Tensor]
) -> None:
    torch.manual_seed(1)
    exact = make().eval()
    stock = copy.deepcopy(exact).to(BF16)
    ours = copy.deepcopy(stock)
    attend_in_rows(ours)
    with torch.inference_mode():
        truth, theirs, mine = drawn(exact), drawn(stock), drawn(ours)
    assert not torch.equal(mine, theirs), "torch's own attention was used"
    assert error(mine, truth) < 1.2 * error(theirs, truth)


@pytest.mark.usefixtures("on_a_fit_processor")
@pytest.mark.parametrize(("network", "precision"), [(denoiser(upcast=True), BF16), (denoiser(), torch.float32)])
def test_scores_are_not_rounded_where_more_precision_is_wanted(
    network: UNet2DConditionModel, precision: torch.dtype
) -> None:
    stock = copy.deepcopy(network).eval().to(precision)
    ours = copy.deepcopy(stock)
    attend_in_rows(ours)
    with torch.inference_mode():
        assert torch.equal(predicted(ours), predicted(stock))
