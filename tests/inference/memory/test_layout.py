"""Flat buffers: a network built around one computes what the network it came from computes."""

from __future__ import annotations

import pytest
import torch

from inference.catalog import Catalog
from inference.loading import open_model
from inference.memory import layout
from inference.memory.layout import ALIGNMENT, CLASSES, Architecture
from inference.memory.network import ReadNetwork
from inference.memory.part import flatten
from inference.memory.slot import Slot
from tests.checkpoints import TinyModels

CPU = torch.device("cpu")


def networks(tiny_models: TinyModels, name: str) -> dict[str, ReadNetwork]:
    catalog = Catalog.load(tiny_models.catalog)
    return open_model(catalog, catalog[name], ()).networks(lambda: None)


@pytest.mark.parametrize("model", ["tiny", "tiny-xl"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_slot_holds_what_the_network_held(
    tiny_models: TinyModels, model: str, precision: torch.dtype, channels_last: bool
) -> None:
    for network in networks(tiny_models, model).values():
        part = flatten(network, Architecture.of(network, precision, channels_last=channels_last))
        slot = Slot(part.label.architecture, CPU)
        slot.put(part)
        mine, theirs = dict(slot.network.state_dict()), network.module.to(precision).state_dict()
        assert mine.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(mine[name], tensor), name
            if tensor.ndim == 4:
                assert mine[name].is_contiguous(memory_format=torch.channels_last) or not channels_last
        buffers = dict(network.module.named_buffers())
        assert {name: tensor.tolist() for name, tensor in slot.network.named_buffers()} == {
            name: tensor.tolist() for name, tensor in buffers.items()
        }


def test_every_tensor_lies_inside_the_buffer_at_an_aligned_place(tiny_models: TinyModels) -> None:
    for network in networks(tiny_models, "tiny").values():
        architecture = Architecture.of(network, torch.bfloat16)
        starts = [spec.offset for spec in architecture.tensors]
        ends = [
            view.storage_offset()
            for view in architecture.views([torch.zeros(architecture.bytes, dtype=torch.uint8)]).values()
        ]
        assert all(start % ALIGNMENT == 0 for start in starts)
        assert starts == sorted(set(starts))
        assert len(ends) == len(starts)


def test_a_device_is_asked_for_pieces_that_are_no_larger_than_it_gives(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, network in networks(tiny_models, "tiny").items():
        part = flatten(network, Architecture.of(network, torch.float32))
        piece, largest = part.bytes // 3, max(spec.end - spec.offset for spec in part.label.architecture.tensors)
        monkeypatch.setattr(layout, "PIECE", piece)
        copy = flatten(network, Architecture.of(network, torch.float32)).copied_to(CPU)
        assert len(copy.pieces) >= 3, name
        assert sum(each.numel() for each in copy.pieces) == part.bytes
        assert max(each.numel() for each in copy.pieces) <= max(piece, largest) + ALIGNMENT
        slot = Slot(copy.label.architecture, CPU, pointed=False)
        slot.put(copy)
        assert slot.bytes == part.bytes
        for tensor, value in slot.network.named_parameters():
            assert torch.equal(value, part.views[tensor])


def test_equal_shapes_are_one_architecture_and_equal_weights_one_digest(tiny_models: TinyModels) -> None:
    first, second = (networks(tiny_models, name) for name in ("tiny", "tiny-flat"))
    for name in first:
        parts = [flatten(network[name], Architecture.of(network[name], torch.float32)) for network in (first, second)]
        assert parts[0].label.architecture.digest == parts[1].label.architecture.digest
        assert (parts[0].label.digest == parts[1].label.digest) == (name == "vae"), name


def test_what_tells_an_architecture_survives_being_written(tiny_models: TinyModels) -> None:
    for network in networks(tiny_models, "tiny-xl").values():
        architecture = Architecture.of(network, torch.float16, channels_last=True)
        read = Architecture.from_json(architecture.json)
        assert read == architecture
        assert read.digest == architecture.digest
        assert type(read.build()) is type(network.module)


def test_only_networks_that_are_known_here_are_built(tiny_models: TinyModels) -> None:
    network = networks(tiny_models, "tiny")["vae"]
    text = Architecture.of(network, torch.float16).json.replace("AutoencoderKL", "Popen")
    assert "Popen" not in CLASSES
    with pytest.raises(ValueError, match="Popen"):
        Architecture.from_json(text)


def test_a_slot_lets_weights_go_only_if_it_holds_them(tiny_models: TinyModels) -> None:
    network = networks(tiny_models, "tiny")["vae"]
    part = flatten(network, Architecture.of(network, torch.float32))
    slot = Slot(part.label.architecture, CPU)
    slot.put(part)
    slot.let_go("another")
    assert slot.holds == part.label.digest
    slot.let_go(part.label.digest)
    assert slot.holds is None
    assert sum(parameter.numel() for parameter in slot.network.parameters()) == 0
    slot.put(part)
    assert torch.equal(slot.network.decoder.conv_in.weight, network.module.decoder.conv_in.weight)
