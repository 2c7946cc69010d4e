"""Single files as they are handed round: names of several programs, and what the file itself says of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference.catalog.entries import Family, Kind, Prediction
from inference.loading.fingerprint import FileHashes
from inference.loading.schedule import schedule_of
from inference.loading.single_file import SingleFile
from tests.inference.likeness import assert_same, model, ours, reference
from tests.layouts import in_generative_models, pipeline, save_single_file


def original(family: Family, path: Path) -> dict[str, Tensor]:
    """The tensors of a file in the original names, to be given others."""
    save_single_file(model(family, Kind.MERGED), path)
    return load_file(path)


def assert_reads(path: Path, part: str, family: Family) -> None:
    """Assert that ``part`` is what it is in the model that the file was made from."""
    read, expected = SingleFile.open(path).network(part).state_dict(), getattr(model(family, Kind.MERGED), part)
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.state_dict().items())


def test_the_projection_of_sdxls_text_is_turned_only_where_it_is_named_as_the_matrix_that_it_was(
    tmp_path: Path,
) -> None:
    """Files made from a diffusers folder, SSD-1B's for one, have a layer's weight instead."""
    path, second = tmp_path / "model.safetensors", "conditioner.embedders.1.model"
    tensors = original(Family.SDXL, path)
    assert_reads(path, "text_encoder_2", Family.SDXL)
    matrix = tensors.pop(f"{second}.text_projection")
    tensors[f"{second}.text_projection.weight"] = matrix.T.contiguous()
    tensors[f"{second}.text_model.embeddings.position_ids"] = torch.arange(77)
    save_file(tensors, path)
    assert_reads(path, "text_encoder_2", Family.SDXL)


NEW_NAMES = {".q.": ".to_q.", ".k.": ".to_k.", ".v.": ".to_v.", ".proj_out.": ".to_out.0."}


def test_an_autoencoders_attention_may_have_the_names_that_diffusers_gave_it_in_2023(tmp_path: Path) -> None:
    """As EveryDream2 and diffusers' conversion of that year write it: linear, and half renamed."""
    path, renamed = tmp_path / "model.safetensors", {}
    for name, tensor in original(Family.SD15, path).items():
        if ".mid.attn_1." in name:
            for old, new in NEW_NAMES.items():
                name = name.replace(old, new)
        renamed[name] = tensor.flatten(1) if ".mid.attn_1.to_" in name and name.endswith("weight") else tensor
    assert "first_stage_model.decoder.mid.attn_1.to_out.0.weight" in renamed
    save_file(renamed, path)
    assert_reads(path, "vae", Family.SD15)


FIRST_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@pytest.mark.parametrize("convolutions", [True, False])
def test_an_autoencoders_attention_may_have_the_names_that_diffusers_gave_it_at_first(
    convolutions: bool, tmp_path: Path
) -> None:
    """As ``stabilityai/sd-vae-ft-mse`` has them."""
    path, renamed = tmp_path / "vae.safetensors", {}
    for name, tensor in model(Family.SD15, Kind.MERGED).vae.state_dict().items():
        for old, new in FIRST_NAMES.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        is_matrix = ".attentions." in name and tensor.ndim == 2
        renamed[name] = tensor[:, :, None, None].contiguous() if is_matrix and convolutions else tensor
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in renamed
    save_file(renamed, path)
    assert_reads(path, "vae", Family.SD15)


def test_a_file_of_stable_diffusion_2_may_have_the_names_of_stabilitys_later_code(tmp_path: Path) -> None:
    """As SD-Turbo is published."""
    path = tmp_path / "model.safetensors"
    in_generative_models(original(Family.SD21, path), path)
    for part in ("text_encoder", "unet", "vae"):
        assert_reads(path, part, Family.SD21)


@pytest.mark.parametrize(
    ("key", "said", "prediction"),
    [
        ("modelspec.prediction_type", "v", "v_prediction"),
        ("modelspec.prediction_type", "v_prediction", "v_prediction"),
        ("modelspec.prediction_type", "epsilon", "epsilon"),
        ("modelspec.predict_key", "v", "v_prediction"),
        ("modelspec.predict_key", "epsilon", "epsilon"),
    ],
)
@pytest.mark.parametrize("family", [Family.SD15, Family.SD21, Family.SDXL])
def test_how_a_model_predicts_may_be_said_in_the_metadata(
    family: Family, key: str, said: str, prediction: str, tmp_path: Path
) -> None:
    """As kohya's trainer and ComfyUI write it. Nothing is said there of a schedule that ends in nothing but noise."""
    made, path = model(family, Kind.MERGED), tmp_path / "model.safetensors"
    save_single_file(made, path, **{key: said})
    expected = LCMScheduler.from_config(made.scheduler.config, prediction_type=prediction)
    assert SingleFile.open(path).predicting(None).schedule() == schedule_of(expected)


def test_a_mark_among_the_tensors_and_the_catalogue_say_more_than_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_single_file(
        model(Family.SDXL, Kind.MERGED), path, marks=["v_pred"], **{"modelspec.prediction_type": "epsilon"}
    )
    file = SingleFile.open(path)
    assert file.predicting(None).schedule().prediction == "v_prediction"
    assert file.predicting(Prediction.EPSILON).schedule().prediction == "epsilon"


CONFIG = """model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"  # or eps
    linear_start: 0.00085
"""


@pytest.mark.parametrize("said", [CONFIG, CONFIG.replace('"', ""), CONFIG.replace('"', "'").replace("\n", "\r\n")])
def test_how_a_model_predicts_may_be_said_in_a_configuration_beside_the_file(said: str, tmp_path: Path) -> None:
    """As AUTOMATIC1111's web UI has it."""
    made, path = model(Family.SD15, Kind.MERGED), tmp_path / "model.v2.safetensors"
    save_single_file(made, path, **{"modelspec.prediction_type": "epsilon"})
    before = SingleFile.open(path).predicting(None)
    digests = {part: before.digest(part, FileHashes()) for part in ("unet", "scheduler")}
    path.with_name("model.v2.yaml").write_bytes(said.encode())
    file = SingleFile.open(path).predicting(None)
    expected = LCMScheduler.from_config(made.scheduler.config, prediction_type="v_prediction")
    assert file.schedule() == schedule_of(expected)
    assert file.predicting(Prediction.EPSILON).schedule().prediction == "epsilon"
    assert {part for part, digest in digests.items() if file.digest(part, FileHashes()) != digest} == {"scheduler"}
    assert before.digest("scheduler", FileHashes()) == file.digest("scheduler", FileHashes())


SILENT = {
    "empty": "",
    "epsilon": CONFIG.replace('"v"', '"eps"'),
    "commented out": CONFIG.replace("parameterization", "# parameterization"),
    "something else": CONFIG.replace('"v"', '"v_other"'),
    "blank": "\n" * 2**20,
    "at its far end": " " * 2**20 + CONFIG,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("said", SILENT.values(), ids=SILENT.keys())
def test_a_configuration_that_says_nothing_of_it_changes_nothing(said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_single_file(model(Family.SD15, Kind.MERGED), path)
    digest = SingleFile.open(path).digest("scheduler", FileHashes())
    path.with_suffix(".yaml").write_text(said)
    file = SingleFile.open(path).predicting(None)
    assert (file.schedule().prediction, file.digest("scheduler", FileHashes())) == ("epsilon", digest)


def leave_out(beginning: str, path: Path) -> None:
    """Save the file again without the tensors whose names begin so."""
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.startswith(beginning)}, path)


@pytest.mark.parametrize("family", [Family.SD15, Family.SDXL])
def test_a_file_without_autoencoder_draws_with_the_one_that_the_catalogue_gives_it(
    family: Family, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    original(family, path)
    leave_out("first_stage_model.", path)
    model(family, Kind.MERGED).vae.save_pretrained(tmp_path / "vae")
    sources = 'weights = { path = "model.safetensors" }\nvae = { path = "vae" }'
    assert_same(ours(tmp_path, family, Kind.MERGED, sources), reference(family, Kind.MERGED))


def test_a_file_without_text_encoder_draws_as_the_denoiser_of_another_model(tmp_path: Path) -> None:
    path, made = tmp_path / "unet.safetensors", model(Family.SD15, Kind.MERGED)
    original(Family.SD15, path)
    leave_out("cond_stage_model.", path)
    other = pipeline(Family.SD15, seed=99).unet
    type(made)(**{**made.components, "unet": other}).save_pretrained(tmp_path / "model")
    sources = 'weights = { path = "model" }\nunet = { path = "unet.safetensors" }'
    assert_same(ours(tmp_path, Family.SD15, Kind.MERGED, sources), reference(Family.SD15, Kind.MERGED))
