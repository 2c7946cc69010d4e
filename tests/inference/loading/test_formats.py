"""Every family in every layout, with every kind of adapter, against diffusers' own pipelines on the same noise.

``from_single_file`` proves that the single files made here are what the world calls one; from then on the pipeline that
a file was made from stands for what diffusers draws from it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file

from inference.catalog import Catalog, CatalogError
from inference.catalog.entries import Family, Kind
from inference.contract import Adapter
from inference.drawing.models import load_model
from inference.errors import InferenceError
from tests.checkpoints import quiet
from tests.inference.likeness import (
    GUIDANCE,
    assert_same,
    model,
    ours,
    reference,
    theirs,
)
from tests.layouts import (
    ALPHA,
    XL,
    draw_changes,
    original_unet,
    original_vae,
    pipeline,
    save_kohya_lora,
    save_peft_lora,
    save_single_file,
)

FAMILIES = (Family.SD15, Family.SDXL, Family.SSD1B)


# -- layouts -----------------------------------------------------------------------------------------------------------


def in_folder(made: Any, folder: Path) -> str:
    made.save_pretrained(folder / "model")
    return 'weights = { path = "model" }'


def in_fp16_folder(made: Any, folder: Path) -> str:
    """As SDXL is published: half of the bytes, under names of their own, and nothing else."""
    copy.deepcopy(made).to(torch.float16).save_pretrained(folder / "model", variant="fp16")
    return 'weights = { path = "model", variant = "fp16" }'


def in_single_file(made: Any, folder: Path) -> str:
    save_single_file(made, folder / "model.safetensors")
    return 'weights = { path = "model.safetensors" }'


def in_half_single_file(made: Any, folder: Path) -> str:
    save_single_file(made, folder / "model.safetensors", dtype=torch.float16)
    return 'weights = { path = "model.safetensors" }'


def with_unet_folder(made: Any, folder: Path) -> str:
    """As ``latent-consistency/lcm-sdxl`` is published: a denoiser by itself, over a base that has another one."""
    made.unet.save_pretrained(folder / "unet")
    return f'{in_folder(with_other_unet(made), folder)}\nunet = {{ path = "unet" }}'


def with_unet_over_single_file(made: Any, folder: Path) -> str:
    made.unet.save_pretrained(folder / "unet")
    return f'{in_single_file(with_other_unet(made), folder)}\nunet = {{ path = "unet" }}'


def with_other_unet(made: Any) -> Any:
    """The pipeline with a denoiser of the same shape that would draw something else."""
    torch.manual_seed(99)
    other = type(made.unet).from_config({**made.unet.config, "time_cond_proj_dim": None})
    return type(made)(**{**made.components, "unet": other})


LAYOUTS: dict[str, Callable[[Any, Path], str]] = {
    "folder": in_folder,
    "fp16 folder": in_fp16_folder,
    "single file": in_single_file,
    "half single file": in_half_single_file,
    "own denoiser": with_unet_folder,
    "own denoiser over a single file": with_unet_over_single_file,
}


@pytest.mark.parametrize("family", [*FAMILIES, Family.VEGA, Family.SD21])
def test_the_single_files_of_these_tests_are_what_diffusers_takes_for_one(family: Family, tmp_path: Path) -> None:
    made = model(family, Kind.MERGED)
    made.save_pretrained(tmp_path / "folder")
    save_single_file(made, tmp_path / "one.safetensors")
    kind: Any = StableDiffusionXLPipeline if family in XL else StableDiffusionPipeline
    read = kind.from_single_file(tmp_path / "one.safetensors", config=str(tmp_path / "folder"))
    for part in ("unet", "vae", "text_encoder", "text_encoder_2")[: 4 if family in XL else 3]:
        theirs, mine = getattr(read, part).state_dict(), getattr(made, part).state_dict()
        assert theirs.keys() == mine.keys()
        assert all(torch.equal(theirs[name], mine[name]) for name in mine), part


@pytest.mark.parametrize("layout", [in_single_file, in_half_single_file])
@pytest.mark.parametrize("kind", [Kind.MERGED, Kind.NATIVE])
def test_a_single_file_of_stable_diffusion_2_draws_once_it_is_said_how_it_predicts(
    kind: Kind, layout: Callable[[Any, Path], str], tmp_path: Path
) -> None:
    sources = layout(model(Family.SD21, kind), tmp_path)
    with pytest.raises(InferenceError, match="does not state its prediction type"):
        ours(tmp_path, Family.SD21, kind, sources)
    said = sources + '\nprediction = "v_prediction"'
    assert_same(ours(tmp_path, Family.SD21, kind, said), reference(Family.SD21, kind))


def test_a_single_file_of_stable_diffusion_2_made_from_a_folder_keeps_all_layers_it_has(tmp_path: Path) -> None:
    """As diffusers' conversion writes it: 23 layers of text, all of them read."""
    made = model(Family.SD21, Kind.MERGED)
    save_single_file(made, tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    unread = ("cond_stage_model.model.transformer.resblocks.23.", "cond_stage_model.model.text_projection")
    read = {name: tensor for name, tensor in tensors.items() if not name.startswith(unread)}
    assert len(read) < len(tensors)
    save_file(read, tmp_path / "model.safetensors")
    said = 'weights = { path = "model.safetensors" }\nprediction = "v_prediction"'
    assert_same(ours(tmp_path, Family.SD21, Kind.MERGED, said), reference(Family.SD21, Kind.MERGED))


@pytest.mark.parametrize("layout", ["single file", "another denoiser"])
def test_how_a_model_predicts_is_part_of_what_it_is(layout: str, tmp_path: Path) -> None:
    sources = in_single_file(model(Family.SD21, Kind.MERGED), tmp_path)
    if layout == "another denoiser":
        sources = f'{in_folder(model(Family.SD21, Kind.MERGED), tmp_path)}\nunet = {{ path = "model.safetensors" }}'
    prints = []
    for prediction in ("v_prediction", "epsilon"):
        ours(tmp_path, Family.SD21, Kind.MERGED, f'{sources}\nprediction = "{prediction}"')
        catalog = Catalog.load(tmp_path / "models.toml")
        loaded = load_model(
            catalog, catalog.default, (), device=torch.device("cpu"), precision=torch.float32, on_part=lambda: None
        )
        prints.append((loaded.fingerprint, loaded.schedule.prediction))
    assert prints[0][0] != prints[1][0]
    assert [prediction for _, prediction in prints] == ["v_prediction", "epsilon"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [('prediction = "v"', "not “v”"), ('prediction = "epsilon"', "a diffusers folder says")],
)
def test_what_is_said_of_the_prediction_is_checked(line: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=complaint):
        ours(tmp_path, Family.SD21, Kind.MERGED, f'weights = {{ path = "model" }}\n{line}')


@pytest.mark.parametrize("layout", ["folder", "single file"])
@pytest.mark.parametrize("said", ["by the catalogue", "by itself"])
def test_another_denoiser_in_one_file_predicts_as_the_catalogue_or_it_itself_says(
    layout: str, said: str, tmp_path: Path
) -> None:
    made = model(Family.SD15, Kind.MERGED)
    sources = LAYOUTS[layout](with_other_unet(made), tmp_path) + '\nunet = { path = "unet.safetensors" }'
    unet = {name: tensor.contiguous() for name, tensor in original_unet(made.unet).items()}
    save_file(unet, tmp_path / "unet.safetensors")
    assert_same(ours(tmp_path, Family.SD15, Kind.MERGED, sources), reference(Family.SD15, Kind.MERGED))
    if said == "by itself":
        save_file(unet, tmp_path / "unet.safetensors", metadata={"modelspec.predict_key": "v"})
    else:
        sources += '\nprediction = "v_prediction"'
    mine = ours(tmp_path, Family.SD15, Kind.MERGED, sources)
    scheduler = type(made.scheduler).from_config(made.scheduler.config, prediction_type="v_prediction")
    expected = quiet(type(made)(**{**made.components, "scheduler": scheduler}))
    assert_same(mine, theirs(expected, GUIDANCE[Kind.MERGED]))


@pytest.mark.parametrize("marks", [["v_pred"], ["v_pred", "ztsnr"]])
def test_a_single_file_of_sdxls_kind_says_how_it_predicts_and_whether_it_starts_from_pure_noise(
    marks: list[str], tmp_path: Path
) -> None:
    made = model(Family.SDXL, Kind.MERGED)
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in marks}
    scheduler = type(made.scheduler).from_config(made.scheduler.config, **settings)
    save_single_file(made, tmp_path / "model.safetensors", marks=marks)
    mine = ours(tmp_path, Family.SDXL, Kind.MERGED, 'weights = { path = "model.safetensors" }')
    expected = quiet(type(made)(**{**made.components, "scheduler": scheduler}))
    assert_same(mine, theirs(expected, GUIDANCE[Kind.MERGED]))


def test_a_model_that_predicts_noise_cannot_start_from_pure_noise(tmp_path: Path) -> None:
    made = model(Family.SD15, Kind.MERGED)
    scheduler = type(made.scheduler).from_config(made.scheduler.config, rescale_betas_zero_snr=True)
    sources = in_folder(type(made)(**{**made.components, "scheduler": scheduler}), tmp_path)
    with pytest.raises(InferenceError, match="nothing but noise"):
        ours(tmp_path, Family.SD15, Kind.MERGED, sources)


WAYS = [
    (kind, layout)
    for kind in (Kind.NATIVE, Kind.MERGED)
    for layout in LAYOUTS
    if kind is Kind.NATIVE or not layout.startswith("own")  # denoisers by themselves are native ones
]


@pytest.mark.parametrize(
    ("family", "kind", "layout"),
    [
        *((family, kind, layout) for family in FAMILIES for kind, layout in WAYS),
        *((Family.VEGA, Kind.MERGED, layout) for layout in ("folder", "single file")),
        (Family.SD21, Kind.MERGED, "folder"),
    ],
)
def test_a_model_draws_what_diffusers_draws(family: Family, kind: Kind, layout: str, tmp_path: Path) -> None:
    sources = LAYOUTS[layout](model(family, kind), tmp_path)
    assert_same(ours(tmp_path, family, kind, sources), reference(family, kind))


@pytest.mark.parametrize("layout", ["folder", "single file", "own denoiser"])
def test_a_denoiser_that_takes_more_than_noise_is_refused_when_it_is_loaded(layout: str, tmp_path: Path) -> None:
    sources = LAYOUTS[layout](pipeline(Family.SD15, channels=9), tmp_path)
    with pytest.raises(InferenceError, match=r"an inpainting model \(9 channels in, 4 out\)"):
        ours(tmp_path, Family.SD15, Kind.MERGED, sources)


OTHER_NOISE = [EDMDPMSolverMultistepScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler]


@pytest.mark.parametrize("scheduler", OTHER_NOISE)
def test_a_folder_that_was_trained_with_other_noise_is_refused(scheduler: Any, tmp_path: Path) -> None:
    made = model(Family.SDXL, Kind.MERGED)
    sources = in_folder(type(made)(**{**made.components, "scheduler": scheduler()}), tmp_path)
    with pytest.raises(InferenceError, match=rf"another kind of noise \({scheduler.__name__}\)"):
        ours(tmp_path, Family.SDXL, Kind.MERGED, sources)
    index = tmp_path / "model" / "model_index.json"
    index.write_text(index.read_text().replace(scheduler.__name__, "EulerDiscreteScheduler"))
    with pytest.raises(InferenceError, match=rf"another kind of noise \({scheduler.__name__}\)"):
        ours(tmp_path, Family.SDXL, Kind.MERGED, sources)


@pytest.mark.parametrize("mark", ["edm_mean", "edm_vpred.sigma_max"])
def test_a_single_file_that_was_trained_with_other_noise_is_refused(mark: str, tmp_path: Path) -> None:
    save_single_file(model(Family.SDXL, Kind.MERGED), tmp_path / "model.safetensors", marks=[mark])
    with pytest.raises(InferenceError, match=r"another kind of noise \(EDM\)"):
        ours(tmp_path, Family.SDXL, Kind.MERGED, 'weights = { path = "model.safetensors" }')


# -- adapters ----------------------------------------------------------------------------------------------------------

ADAPTERS = {
    "none": (),
    "kohya": (Adapter(name="kohya", strength=0.8),),
    "peft": (Adapter(name="peft", strength=0.7),),
    "both": (Adapter(name="kohya", strength=0.5), Adapter(name="peft", strength=-0.4)),
}


def save_loras(made: Any, folder: Path) -> None:
    """An LCM-LoRA, and styles under kohya's and peft's names.

    ``kohya-twin`` holds the same change as ``kohya`` under peft's names: diffusers 0.42 leaves out what kohya's files
    change in a text encoder's attention.
    """
    save_kohya_lora(made, folder / "lcm.safetensors", draw_changes(made, 5, text=False))
    kohya = draw_changes(made, 2)
    save_kohya_lora(made, folder / "kohya.safetensors", kohya)
    save_peft_lora(folder / "kohya-twin.safetensors", kohya, alpha=ALPHA)
    save_peft_lora(folder / "peft.safetensors", draw_changes(made, 3))


def with_loras(made: Any, folder: Path, strengths: dict[str, float]) -> Any:
    """The diffusers pipeline with these files of ``folder`` loaded."""
    made = copy.deepcopy(made)
    for name in strengths:
        made.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
    made.set_adapters(list(strengths), list(strengths.values()))
    return made


@pytest.mark.parametrize(("adapters", "layout"), [*((name, "folder") for name in ADAPTERS), ("both", "single file")])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_with_its_lcm_lora_and_styles_draws_what_diffusers_draws(
    family: Family, adapters: str, layout: str, tmp_path: Path
) -> None:
    made = model(family, Kind.LORA)
    sources = LAYOUTS[layout](made, tmp_path)
    save_loras(made, tmp_path)
    sources += '\nlcm_lora = { path = "lcm.safetensors" }'
    mine = ours(tmp_path, family, Kind.LORA, sources, *ADAPTERS[adapters])
    theirs_of = {"kohya": "kohya-twin", "peft": "peft"}
    strengths = {theirs_of[adapter.name]: adapter.strength for adapter in ADAPTERS[adapters]}
    assert_same(mine, theirs(with_loras(made, tmp_path, {"lcm": 1.0} | strengths), GUIDANCE[Kind.LORA]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kohya_lora_draws_what_diffusers_draws_with_the_same_file(family: Family, tmp_path: Path) -> None:
    made = model(family, Kind.LORA)
    sources = in_folder(made, tmp_path)
    save_kohya_lora(made, tmp_path / "kohya.safetensors", draw_changes(made, 2, text=False))
    mine = ours(tmp_path, family, Kind.MERGED, sources, Adapter(name="kohya", strength=0.8))
    assert_same(mine, theirs(with_loras(made, tmp_path, {"kohya": 0.8}), GUIDANCE[Kind.MERGED]))


def test_a_lora_that_has_every_layer_under_two_names_changes_it_once(tmp_path: Path) -> None:
    """As some of SDXL's are. What the original names hold differs here, so that the picture shows which are heeded."""
    made, path = model(Family.SDXL, Kind.LORA), tmp_path / "kohya.safetensors"
    sources, changes = in_folder(made, tmp_path), draw_changes(made, 2, text=False)
    save_kohya_lora(made, path, draw_changes(made, 3, text=False))
    twice = load_file(path)
    for (_, name), (down, up) in changes.items():
        layer = f"lora_unet_{name.replace('.', '_')}"
        twice |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    save_file(twice, path)
    mine = ours(tmp_path, Family.SDXL, Kind.MERGED, sources, Adapter(name="kohya", strength=0.8))
    assert_same(mine, theirs(with_loras(made, tmp_path, {"kohya": 0.8}), GUIDANCE[Kind.MERGED]))


# -- autoencoders ------------------------------------------------------------------------------------------------------


def tiny_vae() -> AutoencoderTiny:
    """In the shape of TAESD: four levels without attention."""
    torch.manual_seed(3)
    return AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4, num_decoder_blocks=(1,) * 4
    )


@pytest.mark.parametrize("layout", ["folder", "single file"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_autoencoder_replaces_the_checkpoints_own(family: Family, layout: str, tmp_path: Path) -> None:
    made = model(family, Kind.NATIVE)
    small = tiny_vae()
    small.save_pretrained(tmp_path / "vae")
    sources = LAYOUTS[layout](made, tmp_path) + '\nvae = { path = "vae" }'
    swapped = quiet(type(made)(**{**made.components, "vae": small}))
    assert_same(ours(tmp_path, family, Kind.NATIVE, sources), theirs(swapped, GUIDANCE[Kind.NATIVE]))


def test_an_autoencoder_in_one_file_replaces_the_checkpoints_own(tmp_path: Path) -> None:
    """As SDXL's autoencoder that bears half precision is handed round on CivitAI."""
    made = model(Family.SDXL, Kind.NATIVE)
    other = pipeline(Family.SDXL, seed=4).vae
    tensors = {name: tensor.contiguous() for name, tensor in original_vae(other).items()}
    save_file(tensors, tmp_path / "vae.safetensors")
    sources = in_folder(made, tmp_path) + '\nvae = { path = "vae.safetensors" }'
    swapped = quiet(type(made)(**{**made.components, "vae": other}))
    assert_same(ours(tmp_path, Family.SDXL, Kind.NATIVE, sources), theirs(swapped, GUIDANCE[Kind.NATIVE]))
