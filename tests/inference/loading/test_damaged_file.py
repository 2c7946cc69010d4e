"""Checkpoints in one file that are damaged or something else: refused with the reason, and nothing else suffers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.catalog import Catalog
from inference.catalog.entries import Family, Kind
from inference.contract import Adapter
from inference.drawing.models import load_model
from inference.errors import AdapterUnfit, InferenceError, WeightsUnreadable
from tests.inference.likeness import model
from tests.layouts import draw_changes, original_unet, original_vae, save_kohya_lora, save_single_file

CATALOG = """
default = "good"
[models.good]
family = "sd15"
kind = "native"
weights = { path = "good.safetensors" }
size = [64, 64]
sides = [64, 64]
[models.bad]
family = "sd15"
kind = "native"
weights = { path = "bad.safetensors" }
size = [64, 64]
sides = [64, 64]
[adapters.other]
family = "sd15"
weights = { path = "other.safetensors" }
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    save_single_file(model(Family.SD15, Kind.NATIVE), path)
    return path.read_bytes()


@pytest.fixture
def catalog(tmp_path: Path, whole: bytes) -> Catalog:
    (tmp_path / "models.toml").write_text(CATALOG)
    for name in ("good", "bad"):
        (tmp_path / f"{name}.safetensors").write_bytes(whole)
    return Catalog.load(tmp_path / "models.toml")


def refusal(catalog: Catalog, name: str, *adapters: Adapter) -> WeightsUnreadable | AdapterUnfit:
    with pytest.raises(InferenceError) as refused:
        load(catalog, name, *adapters)
    assert isinstance(refused.value.failure, WeightsUnreadable | AdapterUnfit)
    return refused.value.failure


def load(catalog: Catalog, name: str, *adapters: Adapter) -> object:
    cpu = torch.device("cpu")
    return load_model(catalog, catalog[name], adapters, device=cpu, precision=torch.float32, on_part=lambda: None)


def changed(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><title>Login</title>" * 100)


def hundred_gigabyte_header(path: Path) -> None:
    path.write_bytes((100 * 2**30).to_bytes(8, "little") + path.read_bytes()[8:])


def garbled_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\x80" * 100 + content[108:])


def zip_bomb(path: Path) -> None:
    """Metadata of 64 MB in the header."""
    header = json.dumps({"__metadata__": {"ss_tag_frequency": "x" * 2**26}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def nested_metadata(path: Path) -> None:
    header = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def overlapping(path: Path) -> None:
    """Two tensors that claim the same bytes."""
    span = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": span, "b": span}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)


def not_a_number(path: Path) -> None:
    changed(path, lambda tensors: tensors["model.diffusion_model.out.2.weight"].fill_(float("nan")))


def layer_missing(path: Path) -> None:
    changed(path, lambda tensors: tensors.pop("model.diffusion_model.middle_block.0.in_layers.2.weight"))


def other_shape(path: Path) -> None:
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    changed(path, lambda tensors: tensors.update({name: tensors[name][:32].clone()}))


def no_text_encoder(path: Path) -> None:
    made = model(Family.SD15, Kind.NATIVE)
    unet = {f"model.diffusion_model.{name}": tensor for name, tensor in original_unet(made.unet).items()}
    vae = {f"first_stage_model.{name}": tensor.contiguous() for name, tensor in original_vae(made.vae).items()}
    save_file(unet | vae, path)


def only_a_lora(path: Path) -> None:
    made = model(Family.SD15, Kind.NATIVE)
    save_kohya_lora(made, path, draw_changes(made, 1))


DAMAGES = (
    truncated,
    empty,
    web_page,
    hundred_gigabyte_header,
    garbled_header,
    zip_bomb,
    nested_metadata,
    overlapping,
    not_a_number,
    layer_missing,
    other_shape,
    no_text_encoder,
    only_a_lora,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_with_the_reason_and_others_still_load(
    catalog: Catalog, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    bad = tmp_path / "bad.safetensors"
    damage(bad)
    failure = refusal(catalog, "bad")
    assert isinstance(failure, WeightsUnreadable)
    assert (failure.model, failure.path) == ("bad", str(bad))
    assert failure.reason
    assert load(catalog, "good")


@pytest.mark.parametrize("family", [Family.SDXL, Family.SSD1B])
def test_a_lora_of_another_family_is_named_for_what_it_is(catalog: Catalog, tmp_path: Path, family: Family) -> None:
    made = model(family, Kind.LORA)
    save_kohya_lora(made, tmp_path / "other.safetensors", draw_changes(made, 1))
    failure = refusal(catalog, "good", Adapter(name="other"))
    assert isinstance(failure, AdapterUnfit)
    assert "a LoRA" in failure.what
    assert failure.needs == "a LoRA for Stable Diffusion 1.5"
    assert load(catalog, "good")
