"""Packed weights: the same bits, the same bytes on disk, and only where oneDNN wants one order whatever is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from inference.catalog import Catalog
from inference.devices import cpu_computes_bf16
from inference.drawing import models
from inference.drawing.engine import Engine
from inference.drawing.models import layout_on
from inference.loading import open_model
from inference.memory import packing
from inference.memory.packing import compute_packed, is_packed, pack, unpack
from inference.memory.part import Part, flatten
from tests.inference.batches import batch, row

CATALOG = Path(__file__).resolve().parent.parent.parent.parent / "models" / "models.toml"
CPU, BF16 = torch.device("cpu"), torch.bfloat16

pytestmark = pytest.mark.skipif(not cpu_computes_bf16(), reason="this processor does not compute in bf16")
same_bits = pytest.mark.skipif(
    torch.__version__ < "2.11", reason="oneDNN in this torch rounds some packed layers otherwise"
)


@pytest.fixture(autouse=True)
def forgetful() -> None:
    is_packed.cache_clear()


def parts() -> dict[str, Part]:
    catalog = Catalog.load(CATALOG)
    networks = open_model(catalog, catalog["emoji"], ()).networks(lambda: None)
    architectures = layout_on(CPU, BF16, compiled=False)(networks)
    return {name: flatten(network, architectures[name]) for name, network in networks.items()}


@pytest.mark.parametrize("shape", [(128, 128, 3, 3), (640, 128, 3, 3), (64, 320, 3, 3), (160, 96, 1, 1), (4, 4, 1, 1)])
@pytest.mark.parametrize(("rows", "side"), [(1, 4), (1, 16), (8, 8), (2, 33)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_packed_kernel_convolves_to_the_same_bits(shape: tuple[int, ...], rows: int, side: int, stride: int) -> None:
    outputs, inputs, height, _ = shape
    convolution = nn.Conv2d(inputs, outputs, height, stride=stride if height > 1 else 1, padding=height // 2)
    convolution = convolution.to(BF16).requires_grad_(False).to(memory_format=torch.channels_last)
    picture = torch.randn(rows, inputs, side, side).to(BF16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain = convolution(picture)
        convolution.packed = pack(convolution.weight)
        compute_packed(convolution)
        packed = convolution(picture)
    assert torch.equal(packed, plain)
    assert packed.stride() == plain.stride()


@same_bits
@pytest.mark.parametrize("shape", [(160, 160), (1280, 320), (768, 77), (3, 5)])
@pytest.mark.parametrize("rows", [(1,), (77,), (2, 77), (8, 64), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_layer_computes_the_same_bits(
    shape: tuple[int, ...], rows: tuple[int, ...], bias: bool
) -> None:
    outputs, inputs = shape
    layer = nn.Linear(inputs, outputs, bias=bias).to(BF16).requires_grad_(False)
    tokens = torch.randn(*rows, inputs).to(BF16)
    with torch.inference_mode():
        plain = layer(tokens)
        layer.packed = pack(layer.weight)
        compute_packed(layer)
        assert torch.equal(layer(tokens), plain)


@pytest.mark.parametrize("shape", [(128, 96, 3, 3), (128, 96, 1, 1), (10, 7, 1, 1), (1280, 320), (3, 5)])
def test_unpacking_gives_the_weights_back(shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape).to(BF16)
    assert torch.equal(unpack(pack(weights), shape), weights)


@pytest.mark.parametrize("shape", [(128, 128, 3, 3), (1280, 1280, 1, 1), (1280, 1280), (16, 16)])
def test_only_bf16_is_packed(shape: tuple[int, ...]) -> None:
    assert is_packed(shape, BF16)
    assert not is_packed(shape, torch.float32)
    assert not is_packed(shape, torch.float16)


def test_small_kernels_stay_plain() -> None:
    assert not is_packed((16, 16, 3, 3), BF16)


def test_a_kernel_whose_order_follows_what_is_drawn_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = iter(range(100))
    monkeypatch.setattr(packing, "_bytes", lambda packed: bytes([next(orders)]))
    assert not is_packed((128, 128, 3, 3), BF16)
    is_packed.cache_clear()
    monkeypatch.setattr(packing, "_bytes", lambda packed: b"always the same")
    assert is_packed((128, 128, 3, 3), BF16)


def test_what_is_packed_is_written_to_disk_as_it_was_read() -> None:
    packed = parts()["unet"]
    assert packed.packed, "or else this tests nothing"
    assert packed.flat.numel() < packed.bytes
    again = Part(label=packed.label, flat=packed.whole()).settled()
    assert torch.equal(again.flat, packed.flat)
    for spec in packed.label.architecture.packed:
        mine, theirs = (unpack(part.packed[spec.name], spec.shape) for part in (again, packed))
        assert torch.equal(mine, theirs)


@same_bits
def test_the_built_in_model_draws_the_same_bits_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[np.ndarray]:  # type: ignore[type-arg]
        engine = Engine(catalog=Catalog.load(CATALOG), device="cpu")
        orders = (batch(row(), model="emoji"), batch(row(guidance=1.5), row(1), model="emoji-flat", bucket=2))
        return [engine.draw(order, lambda progress: None).pixels for order in orders]

    packed = drawn()
    monkeypatch.setattr(models, "is_packed", lambda shape, dtype: False)
    for mine, plain in zip(packed, drawn(), strict=True):
        assert np.array_equal(mine, plain)
