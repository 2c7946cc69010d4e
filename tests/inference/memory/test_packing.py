"""Packed kernels: the same bits, the same bytes on disk, and only where oneDNN wants one order whatever is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from inference.catalog import Catalog
from inference.devices import cpu_computes_bf16
from inference.drawing.engine import Engine
from inference.drawing.models import layout_on
from inference.loading import open_model
from inference.memory import packing
from inference.memory.packing import convolve_packed, is_packed, pack, unpack
from inference.memory.part import Part, flatten
from tests.inference.batches import batch, row

CATALOG = Path(__file__).resolve().parent.parent.parent.parent / "models" / "models.toml"
CPU, BF16 = torch.device("cpu"), torch.bfloat16

pytestmark = pytest.mark.skipif(not cpu_computes_bf16(), reason="this processor does not compute in bf16")


@pytest.fixture(autouse=True)
def forgetful() -> None:
    is_packed.cache_clear()


def parts() -> dict[str, Part]:
    catalog = Catalog.load(CATALOG)
    networks = open_model(catalog, catalog["emoji"], ()).networks(lambda: None)
    architectures = layout_on(CPU, BF16, compiled=False)(networks)
    return {name: flatten(network, architectures[name]) for name, network in networks.items()}


@pytest.mark.parametrize("shape", [(128, 128, 3, 3), (640, 128, 3, 3), (64, 320, 3, 3)])
@pytest.mark.parametrize(("rows", "side"), [(1, 4), (1, 16), (8, 8), (2, 33)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_packed_kernel_convolves_to_the_same_bits(shape: tuple[int, ...], rows: int, side: int, stride: int) -> None:
    outputs, inputs, height, _ = shape
    convolution = nn.Conv2d(inputs, outputs, height, stride=stride, padding=1).to(BF16).requires_grad_(False)
    convolution = convolution.to(memory_format=torch.channels_last)
    picture = torch.randn(rows, inputs, side, side).to(BF16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain = convolution(picture)
        convolution.packed = pack(convolution.weight)
        convolve_packed(convolution)
        assert torch.equal(convolution(picture), plain)


def test_unpacking_gives_the_kernel_back() -> None:
    kernel = torch.randn(128, 96, 3, 3).to(BF16)
    assert torch.equal(unpack(pack(kernel)), kernel)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((128, 128, 3, 3), torch.float32),
        ((128, 128, 3, 3), torch.float16),
        ((1280, 1280, 1, 1), BF16),
        ((1280, 1280), BF16),
        ((16, 16, 3, 3), BF16),
    ],
)
def test_other_kernels_stay_plain(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert not is_packed(shape, dtype)


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
    assert all(torch.equal(unpack(again.packed[name]), unpack(kernel)) for name, kernel in packed.packed.items())


def test_the_built_in_model_draws_the_same_bits_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[np.ndarray]:  # type: ignore[type-arg]
        engine = Engine(catalog=Catalog.load(CATALOG), device="cpu")
        orders = (batch(row(), model="emoji"), batch(row(guidance=1.5), row(1), model="emoji-flat", bucket=2))
        return [engine.draw(order, lambda progress: None).pixels for order in orders]

    packed = drawn()
    is_packed.cache_clear()
    monkeypatch.setattr(packing, "WORTH", 10**12)
    for mine, plain in zip(packed, drawn(), strict=True):
        assert np.array_equal(mine, plain)
