"""Files that people drop into the folders and that become nothing: what is said of them, and what the check finds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file

from inference.catalog import Catalog
from inference.catalog.entries import Family, Kind
from inference.cli.check import check_all
from tests.inference.catalog.folders import drop_checkpoint, real_text
from tests.inference.likeness import model
from tests.layouts import denoiser, draw_changes, pipeline, save_kohya_lora, save_single_file

NAMES = ("fits", "wider", "absent")
MODEL = """
default = "model"
[models.model]
family = "sd15"
kind = "native"
weights = { path = "model" }
size = [64, 64]
sides = [64, 64]
"""


def lora_among_checkpoints(folder: Path) -> None:
    made = real_text(Family.SD15)
    save_kohya_lora(made, folder / "checkpoints" / "x.safetensors", draw_changes(made, 1))


def checkpoint_among_loras(folder: Path) -> None:
    save_single_file(model(Family.SD15, Kind.LORA), folder / "loras" / "x.safetensors")


def loha(folder: Path) -> None:
    save_file({"lora_unet_mid_block_x.hada_w1_a": torch.ones(2, 2)}, folder / "loras" / "x.safetensors")


def flux(folder: Path) -> None:
    save_file({"lora_unet_double_blocks_0.lora_down.weight": torch.ones(2, 2)}, folder / "loras" / "x.safetensors")


def embedding(folder: Path) -> None:
    save_file({"emb_params": torch.ones(2, 768)}, folder / "loras" / "x.safetensors")


def embedding_for_sdxl(folder: Path) -> None:
    save_file({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, folder / "loras" / "x.safetensors")


def diffusers_autoencoder(folder: Path) -> None:
    model(Family.SD15, Kind.LORA).vae.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "loras" / "x.safetensors")


def refiner(folder: Path) -> None:
    """SDXL's second model reads text with the second encoder alone, which is the first of its file."""
    path = drop_checkpoint(folder, Family.SDXL, Kind.LORA, "x")
    first, second = "conditioner.embedders.0.", "conditioner.embedders.1."
    rest = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(first)}
    save_file({name.replace(second, first): tensor for name, tensor in rest.items()}, path)


def pickle(folder: Path) -> None:
    (folder / "checkpoints" / "x.ckpt").write_bytes(b"PK")


def nonsense(folder: Path) -> None:
    (folder / "loras" / "x.safetensors").write_text("<html>Not Found</html>")


def huge_header(folder: Path) -> None:
    (folder / "loras" / "x.safetensors").write_bytes((100 * 2**30).to_bytes(8, "little") + b"{}")


def zip_bomb(folder: Path) -> None:
    """A header that would be 100 GB of tensors, in a few bytes."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [25 * 2**30], "data_offsets": [0, 100 * 2**30]}}).encode()
    (folder / "loras" / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def described(folder: Path, shape: str) -> None:
    """A file with one tensor, whose header calls its shape that."""
    header = f'{{"x": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}}}'.encode()
    (folder / "loras" / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)


def endless(folder: Path) -> None:
    described(folder, "[1e999]")


def many_sided(folder: Path) -> None:
    """Sides that would take minutes to multiply."""
    described(folder, f"[{'9' * 4000}{f', {2**62}' * 1_000_000}]")


def nested(folder: Path, file: str) -> None:
    """A diffusers folder one of whose configurations has no bottom."""
    real_text(Family.SD15).save_pretrained(folder / "checkpoints" / "x_lcm")
    (folder / "checkpoints" / "x_lcm" / file).write_text("[" * 200_000)


def nested_index(folder: Path) -> None:
    nested(folder, "model_index.json")


def nested_denoiser(folder: Path) -> None:
    nested(folder, "unet/config.json")


def video(folder: Path) -> None:
    """As wide as SDXL's text is."""
    name = "transformer_blocks.0.attn2.to_k.lora_A.weight"
    save_file({f"transformer.{name}": torch.ones(2, 2048)}, folder / "loras" / "x.safetensors")


def video_as_comfyui_has_it(folder: Path) -> None:
    name = "transformer_blocks.0.attn2.to_k.lora_A.weight"
    save_file({f"diffusion_model.{name}": torch.ones(2, 2048)}, folder / "loras" / "x.safetensors")


def another_transformer(folder: Path) -> None:
    name = "lora_unet_blocks_0_self_attn_q_proj.lora_down.weight"
    save_file({name: torch.ones(2, 2048)}, folder / "loras" / "x.safetensors")


def lycoris(folder: Path) -> None:
    name = "lycoris_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({name: torch.ones(2, 768)}, folder / "loras" / "x.safetensors")


def replaced_weights(folder: Path) -> None:
    made = real_text(Family.SD15)
    save_kohya_lora(made, folder / "loras" / "x.safetensors", draw_changes(made, 1))
    tensors = load_file(folder / "loras" / "x.safetensors")
    save_file({**tensors, "lora_unet_conv_in.set_weight": torch.ones(2)}, folder / "loras" / "x.safetensors")


def odd_name(folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "x")
    try:
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.safetensors"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")


def silent_about_its_prediction(folder: Path) -> None:
    save_single_file(model(Family.SD21, Kind.NATIVE), folder / "checkpoints" / "x.safetensors")


def drop_without(folder: Path, *beginnings: str) -> None:
    path = drop_checkpoint(folder, Family.SDXL, Kind.LORA, "x")
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.startswith(beginnings)}, path)


def no_autoencoder(folder: Path) -> None:
    drop_without(folder, "first_stage_model.")


def no_text_encoder(folder: Path) -> None:
    drop_without(folder, "conditioner.")


def only_a_denoiser(folder: Path) -> None:
    drop_without(folder, "conditioner.", "first_stage_model.")


def inpainting(folder: Path) -> None:
    save_single_file(pipeline(Family.SD15, channels=9), folder / "checkpoints" / "x.safetensors")


def editing(folder: Path) -> None:
    save_single_file(pipeline(Family.SDXL, channels=8), folder / "checkpoints" / "x.safetensors")


def inpainting_folder(folder: Path) -> None:
    made = pipeline(Family.SD15, channels=9)
    type(made)(**{**made.components, "unet": denoiser(Family.SD15, channels=9)}).save_pretrained(
        folder / "checkpoints" / "x"
    )


def playground(folder: Path) -> None:
    marks = ("edm_mean", "edm_std")
    save_single_file(model(Family.SDXL, Kind.LORA), folder / "checkpoints" / "x.safetensors", marks=marks)


def playground_folder(folder: Path) -> None:
    made = model(Family.SDXL, Kind.LORA)
    parts = {"unet": denoiser(Family.SDXL), "scheduler": EDMDPMSolverMultistepScheduler()}
    type(made)(**{**made.components, **parts}).save_pretrained(folder / "checkpoints" / "x")


UNUSABLE: list[tuple[Callable[[Path], None], str]] = [
    (lora_among_checkpoints, "a LoRA for Stable Diffusion 1.5: it belongs in the LoRA folder"),
    (checkpoint_among_loras, "a whole checkpoint for Stable Diffusion 1.5: it belongs in the checkpoint folder"),
    (silent_about_its_prediction, "name it in the catalogue with prediction = “v_prediction”"),
    (no_autoencoder, "there is no autoencoder in it: name it in the catalogue, with one as its “vae”"),
    (no_text_encoder, "there is no text encoder in it: name it in the catalogue as the “unet” of a whole model"),
    (only_a_denoiser, "there is no text encoder in it"),
    (inpainting, "an inpainting model (9 channels in, 4 out)"),
    (editing, "a model that edits pictures (8 channels in, 4 out)"),
    (inpainting_folder, "an inpainting model (9 channels in, 4 out)"),
    (playground, "another kind of noise (EDM)"),
    (playground_folder, "another kind of noise (EDMDPMSolverMultistepScheduler)"),
    (loha, "a LoHa: only LoRAs"),
    (flux, "made for Flux"),
    (embedding, "a textual inversion embedding"),
    (embedding_for_sdxl, "a textual inversion embedding: only LoRAs"),
    (diffusers_autoencoder, "an autoencoder by itself: only LoRAs"),
    (refiner, "a whole checkpoint: not a checkpoint of Stable Diffusion 1.5"),
    (pickle, "can run arbitrary code"),
    (nonsense, "not a safetensors file"),
    (huge_header, "not a safetensors file"),
    (zip_bomb, "cut off"),
    (endless, "the header does not describe x"),
    (many_sided, "the header contradicts itself about x"),
    (nested_index, "model_index.json is nested too deeply"),
    (nested_denoiser, "unet/config.json is nested too deeply"),
    (video, "it has “transformer.transformer_blocks.0.attn2.to_k.lora_A.weight”"),
    (video_as_comfyui_has_it, "a LoRA for models other than Stable Diffusion 1.5"),
    (another_transformer, "a LoRA for models other than Stable Diffusion 1.5"),
    (lycoris, "it has “lycoris_unet_down_blocks_1"),
    (replaced_weights, "it has “lora_unet_conv_in.set_weight”"),
    (odd_name, "its path is not in UTF-8"),
]


@pytest.mark.parametrize(("drop", "reason"), UNUSABLE, ids=[drop.__name__ for drop, _ in UNUSABLE])
def test_a_file_that_cannot_be_used_is_told_with_the_reason(
    catalog: Catalog, folder: Path, drop: Callable[[Path], None], reason: str
) -> None:
    drop(folder)
    [file] = catalog.unusable
    assert reason in file.reason
    assert [entry.name for entry in catalog] == ["named"]
    said: list[str] = []
    assert not check_all(catalog, said.append)
    assert any(str(file.path) in line and reason in line for line in said)


def test_the_check_loads_what_is_here_and_names_the_rest(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "good")
    drop_checkpoint(folder, Family.SD15, Kind.LORA, "plain")
    said: list[str] = []
    assert check_all(catalog, said.append)
    for words in ("· named is not here", "✓ good: ", "· plain is not here", "lcm-sd15.safetensors"):
        assert any(words in line for line in said)


def test_the_check_tries_every_lora_on_a_model_of_its_family(tmp_path: Path) -> None:
    made = model(Family.SD15, Kind.NATIVE)
    made.save_pretrained(tmp_path / "model")
    save_kohya_lora(made, tmp_path / "fits.safetensors", draw_changes(made, 1))
    save_kohya_lora(real_text(Family.SD15), tmp_path / "wider.safetensors", draw_changes(real_text(Family.SD15), 1))
    adapters = [f'[adapters.{name}]\nfamily = "sd15"\nweights = {{ path = "{name}.safetensors" }}' for name in NAMES]
    (tmp_path / "models.toml").write_text("\n".join([MODEL, *adapters]))
    said: list[str] = []
    assert not check_all(Catalog.load(tmp_path / "models.toml"), said.append)
    assert any(line.startswith("✓ LoRA fits: fits model") for line in said)
    assert any(line.startswith("✗ LoRA wider: ") and "attn2" in line for line in said)
    assert any(line.startswith("· LoRA absent is not here") for line in said)
