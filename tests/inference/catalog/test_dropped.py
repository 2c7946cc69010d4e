"""Files that people drop into the folders: what they become."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.catalog import Catalog
from inference.catalog.entries import LONGEST_NAME, Family, Kind
from inference.drawing.models import load_model
from inference.errors import InferenceError
from tests.inference.catalog.folders import FAMILIES, drop_checkpoint, real_text
from tests.inference.likeness import draws_like_diffusers, model
from tests.layouts import (
    denoiser,
    draw_changes,
    draw_whole_changes,
    in_generative_models,
    save_comfyui_lora,
    save_kohya_lora,
    save_single_file,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_appears_with_its_family_and_its_lcm_lora(catalog: Catalog, folder: Path, family: Family) -> None:
    drop_checkpoint(folder, family, Kind.LORA, "My Model_v1.2")
    entry = catalog["my-model-v1-2"]
    assert (entry.family, entry.kind, entry.title) == (family, Kind.LORA, "My Model_v1.2")
    assert entry.lcm_lora is not None
    assert entry.lcm_lora.path == folder / f"lcm-{family}.safetensors"
    assert entry in list(catalog)


@pytest.mark.parametrize(("name", "kind"), [("x", Kind.NATIVE), ("x_LCM", Kind.MERGED), ("dreamyLCM", Kind.MERGED)])
def test_a_distilled_checkpoint_gets_no_lcm_lora(catalog: Catalog, folder: Path, name: str, kind: Kind) -> None:
    drop_checkpoint(folder, Family.SD15, kind, name)
    [entry] = [entry for entry in catalog if entry.name != "named"]
    assert (entry.kind, entry.lcm_lora) == (kind, None)


MERGED_NAMES = (
    "photonLCM_v10",
    "semirealxLCM_v10",
    "truevisionLCM77_v10",
    "sdxlLCMmix_v2",
    "LCMdreamshaper",
    "cyberphotonlcm_v10",
    "lcmphoton",
    "photon_Lcm",
    "realisticVisionV60B1_v51HyperVAE",
    "RealVisXL_V5.0_Hyper",
    "sdxl-hyper-8step",
    "juggernautXL_v9Rdphoto2Lightning",
    "dreamshaperXL_sfwLightningDPMSDE",
    "sdxl_lightning_4step",
    "dreamshaperXL_v21TurboDPMSDE",
    "sd_xl_turbo_1.0_fp16",
    "turbovisionxl_v431",
    "lustifySDXLNSFW_ggwpV7DMD2",
    "anythingxl_dmd2",
)
OTHER_NAMES = ("calcmix_v1", "hyperrealism_v30", "HyperRealism_v2", "hyper-realistic", "Hyperion")


def test_names_as_checkpoints_for_few_steps_have_them_get_no_lcm_lora_on_top(catalog: Catalog, folder: Path) -> None:
    made = drop_checkpoint(folder, Family.SD15, Kind.LORA, OTHER_NAMES[0])
    for name in (*MERGED_NAMES, *OTHER_NAMES[1:]):
        made.with_name(f"{name}.safetensors").hardlink_to(made)
    kinds = {entry.title: entry.kind for entry in catalog if entry.name != "named"}
    assert kinds == dict.fromkeys(MERGED_NAMES, Kind.MERGED) | dict.fromkeys(OTHER_NAMES, Kind.LORA)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_diffusers_folder_appears_too(catalog: Catalog, folder: Path, family: Family) -> None:
    made = model(family, Kind.NATIVE)
    type(made)(**{**made.components, "unet": denoiser(family, native=True)}).save_pretrained(
        folder / "checkpoints" / "whole"
    )
    assert (catalog["whole"].family, catalog["whole"].kind) == (family, Kind.NATIVE)


def test_a_folders_name_is_read_beyond_its_dots(catalog: Catalog, folder: Path) -> None:
    real_text(Family.SD15).save_pretrained(folder / "checkpoints" / "DreamShaper_v8.0_LCM")
    entry = catalog["dreamshaper-v8-0-lcm"]
    assert (entry.kind, entry.lcm_lora, entry.title) == (Kind.MERGED, None, "DreamShaper_v8.0_LCM")


@pytest.mark.parametrize("repository", ["models--stabilityai--sdxl-turbo", "models--sdxl-turbo"])
def test_a_model_from_the_hubs_cache_has_the_name_of_its_repository(
    catalog: Catalog, folder: Path, repository: str
) -> None:
    snapshot = folder / "hub" / repository / "snapshots" / ("0123456789" * 4)
    real_text(Family.SD15).save_pretrained(snapshot)
    (folder / "checkpoints" / repository).symlink_to(folder / "hub" / repository)
    entry = catalog["sdxl-turbo"]
    assert (entry.title, entry.description, entry.kind) == ("sdxl-turbo", "sdxl-turbo", Kind.MERGED)
    (folder / "checkpoints" / repository).unlink()
    (folder / "checkpoints" / "mine").symlink_to(snapshot)
    assert (catalog["mine"].title, catalog.get("sdxl-turbo")) == ("mine", None)


def test_a_diffusers_folder_appears_once_it_has_been_copied_far_enough(catalog: Catalog, folder: Path) -> None:
    made = model(Family.SD15, Kind.NATIVE)
    whole = folder / "checkpoints" / "whole"
    type(made)(**{**made.components, "unet": denoiser(Family.SD15, native=True)}).save_pretrained(whole)
    config = (whole / "unet" / "config.json").rename(folder / "later")
    assert [file.path for file in catalog.unusable] == [whole]
    config.rename(whole / "unet" / "config.json")
    assert ([entry.name for entry in catalog], catalog.unusable) == (["named", "whole"], ())


def test_a_diffusers_folder_that_has_only_halves_is_drawn_with(catalog: Catalog, folder: Path) -> None:
    half = copy.deepcopy(real_text(Family.SD15)).to(torch.float16)
    half.save_pretrained(folder / "checkpoints" / "x_lcm", variant="fp16")
    entry = catalog["x-lcm"]
    loaded = load_model(catalog, entry, (), device=torch.device("cpu"), precision=torch.float32)
    assert torch.equal(loaded.unet.conv_in.weight, half.unet.conv_in.weight.float())
    half.to(torch.float32).unet.save_pretrained(folder / "checkpoints" / "x_lcm" / "unet")
    assert (entry.weights.variant, catalog["x-lcm"].weights.variant) == ("fp16", None)


def test_what_was_dropped_is_drawn_with(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "mine")
    draws_like_diffusers(catalog, catalog["mine"], Family.SD15, Kind.NATIVE)


def test_a_file_that_the_catalogue_names_is_not_a_second_model(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "named")
    assert [entry.name for entry in catalog] == ["named"]


def place(path: str) -> str:
    """What ends the names of files that no plain name can tell apart."""
    return hashlib.sha256(path.encode()).hexdigest()[:8]


def test_a_name_that_the_catalogue_has_given_away_ends_in_a_hash(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "Named!")
    assert catalog[f"named-{place('Named!.safetensors')}"].title == "Named!"


def test_a_name_means_the_same_file_whatever_is_dropped_beside_it(catalog: Catalog, folder: Path) -> None:
    """Also where letters are left out that no name can hold, and where two files come by the same name."""
    made = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "麦橘写实_v7")
    meant: dict[str, Path | None] = {}

    def look() -> list[str]:
        found = {entry.name: entry.weights.path for entry in catalog if entry.name != "named"}
        assert {name: meant.setdefault(name, path) for name, path in found.items()} == found
        assert all(len(name) <= LONGEST_NAME for name in found)
        return [*found]

    assert look() == [f"v7-{place('麦橘写实_v7.safetensors')}"]
    for stem in ("国风", "v7", "墨幽人造人_v7"):
        made.with_stem(stem).hardlink_to(made)
        look()
    assert catalog["v7"].weights.path == made.with_stem("v7")
    made.with_stem("V7!").hardlink_to(made)
    assert "v7" not in look()
    made.with_stem(f"v7-{place('V7!.safetensors')}").hardlink_to(made)
    assert len(look()) == 6
    made.unlink()
    assert len(look()) == 5
    assert {entry.title for entry in catalog} >= {"国风", "墨幽人造人_v7"}


def test_a_model_and_a_lora_at_the_same_place_have_names_of_their_own(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "国风")
    made = real_text(Family.SD15)
    save_kohya_lora(made, folder / "loras" / "国风.safetensors", draw_changes(made, 1))
    [dropped] = [entry for entry in catalog if entry.name != "named"]
    [lora] = catalog.adapters(Family.SD15)
    assert dropped.name != lora.name
    assert catalog[dropped.name] == dropped
    assert catalog.adapter(lora.name, Family.SD15) == lora


def test_a_file_that_cannot_be_used_takes_no_name(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "anime/x")
    (folder / "checkpoints" / "x.safetensors").write_bytes(b"?")
    assert [entry.name for entry in catalog] == ["named", "x"]


def test_folders_in_the_folders_are_looked_into_after_what_lies_on_top(catalog: Catalog, folder: Path) -> None:
    for name in ("x", "anime/x", "anime/late/y"):
        drop_checkpoint(folder, Family.SD15, Kind.NATIVE, name)
    made = real_text(Family.SD15)
    (folder / "loras" / "styles").mkdir()
    save_kohya_lora(made, folder / "loras" / "styles" / "ink.safetensors", draw_changes(made, 1))
    places = {entry.name: entry.weights.path for entry in catalog if entry.name != "named"}
    checkpoints = folder / "checkpoints"
    assert places == {
        f"x-{place('x.safetensors')}": checkpoints / "x.safetensors",
        f"x-{place('anime/x.safetensors')}": checkpoints / "anime" / "x.safetensors",
        "y": checkpoints / "anime" / "late" / "y.safetensors",
    }
    assert [adapter.name for adapter in catalog.adapters(Family.SD15)] == ["ink"]


def test_nothing_is_looked_for_inside_of_models_networks_and_hidden_folders(catalog: Catalog, folder: Path) -> None:
    real_text(Family.SD15).save_pretrained(folder / "checkpoints" / "sub" / "whole_lcm")
    denoiser(Family.SD15).save_pretrained(folder / "checkpoints" / "unet")
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, ".trash/x")
    assert ([entry.name for entry in catalog], catalog.unusable) == (["named", "whole-lcm"], ())


def test_a_folder_that_may_not_be_looked_into_is_passed_over(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "anime/x")
    loop = folder / "checkpoints" / "loop"
    loop.symlink_to(loop)
    (folder / "checkpoints" / "nowhere").symlink_to(folder / "models.toml" / "beyond")
    assert [entry.name for entry in catalog] == ["named", "x"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_what_others_keep_to_themselves_is_passed_over(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "anime/x")
    locked = folder / "checkpoints" / "lost+found"
    locked.mkdir(mode=0)
    (folder / "checkpoints" / "link").symlink_to(locked / "inside")
    assert [entry.name for entry in catalog] == ["named", "x"]


def test_the_lcm_loras_of_checkpoints_are_no_styles(catalog: Catalog, folder: Path) -> None:
    text = (folder / "models.toml").read_text().replace('"lcm-sd15', '"loras/lcm-sd15')
    (folder / "models.toml").write_text(text)
    made = real_text(Family.SD15)
    for name in ("lcm-sd15", "ink"):
        save_kohya_lora(made, folder / "loras" / f"{name}.safetensors", draw_changes(made, 1))
    catalog = Catalog.load(folder / "models.toml")
    assert [adapter.name for adapter in catalog.adapters(Family.SD15)] == ["ink"]


def test_a_link_back_is_not_followed_for_ever(catalog: Catalog, folder: Path) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "anime/x")
    (folder / "checkpoints" / "anime" / "back").symlink_to(folder / "checkpoints", target_is_directory=True)
    assert [entry.name for entry in catalog] == ["named", "x"]


@pytest.mark.parametrize("stem", ["DreamShaper_8_pruned", "Long_Name_" * 8])
def test_a_dropped_file_is_found_by_its_own_name(catalog: Catalog, folder: Path, stem: str) -> None:
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, stem)
    found = catalog.of_file(stem)
    assert found is not None
    assert found.weights.path == folder / "checkpoints" / f"{stem}.safetensors"


def test_files_of_one_name_are_found_by_it_those_nearest_to_the_top_first(catalog: Catalog, folder: Path) -> None:
    for stem in ("anime/Dream_8", "Dream_8", "梦_Dream_9"):
        drop_checkpoint(folder, Family.SD15, Kind.NATIVE, stem)
    found = catalog.of_file("Dream_8")
    assert found is not None
    assert found.weights.path == folder / "checkpoints" / "Dream_8.safetensors"
    assert catalog.of_file("Dream_9") is None


def test_names_and_titles_of_dropped_files_have_a_length_that_can_be_chosen_by(catalog: Catalog, folder: Path) -> None:
    stems = [f"{'very ' * 30}long {end}" for end in ("one", "two")]
    made = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, stems[0])
    made.with_stem(stems[1]).hardlink_to(made)
    found = {entry.name: entry.title for entry in catalog if entry.name != "named"}
    base = ("very-" * 8)[:31]
    assert found == {f"{base}-{place(f'{stem}.safetensors')}": stem[:100] for stem in stems}


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({"modelspec.title": "  A  Style\n"}, "A Style"),
        ({"modelspec.title": " ", "ss_output_name": "a_style"}, "a_style"),
        ({"modelspec.title": "", "ss_output_name": " "}, "x"),
        ({"modelspec.title": "long " * 100}, ("long " * 20)),
    ],
)
def test_a_title_is_what_the_author_says_if_that_is_anything(
    catalog: Catalog, folder: Path, metadata: dict[str, str], title: str
) -> None:
    made = real_text(Family.SD15)
    save_kohya_lora(made, folder / "loras" / "x.safetensors", draw_changes(made, 1), **metadata)
    [adapter] = catalog.adapters(Family.SD15)
    assert adapter.title == title


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_appears_for_its_family_with_its_trigger_words(catalog: Catalog, folder: Path, family: Family) -> None:
    made = real_text(family)
    tags = json.dumps({"10_style": {"my style": 10, "a cat": 3}})
    save_kohya_lora(made, folder / "loras" / "Style.safetensors", draw_changes(made, 1), ss_tag_frequency=tags)
    [adapter] = catalog.adapters(family)
    assert (adapter.name, adapter.triggers) == ("style", ("my style", "a cat"))
    assert not any(catalog.adapters(other) for other in FAMILIES if other is not family)


def test_only_what_is_new_or_has_changed_is_read_again(catalog: Catalog, folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "x")
    assert catalog["x"]
    stat = path.stat()
    path.write_bytes(b"?" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "y")
    assert [entry.name for entry in catalog] == ["named", "x", "y"]
    path.touch()
    assert [entry.name for entry in catalog] == ["named", "y"]


def test_a_file_that_goes_is_gone(catalog: Catalog, folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "x")
    assert catalog["x"]
    path.unlink()
    with pytest.raises(InferenceError, match="named"):
        catalog["x"]


def test_a_file_that_is_still_being_copied_appears_when_it_is_whole(catalog: Catalog, folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "x")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert [file.path for file in catalog.unusable] == [path]
    assert "cut off" in catalog.unusable[0].reason
    path.write_bytes(whole)
    assert (catalog["x"].name, catalog.unusable) == ("x", ())


def test_a_file_of_stable_diffusion_2_that_says_how_it_predicts_is_a_model(catalog: Catalog, folder: Path) -> None:
    path = folder / "checkpoints" / "x_LCM.safetensors"
    save_single_file(model(Family.SD21, Kind.MERGED), path, **{"modelspec.prediction_type": "v"})
    assert (catalog["x-lcm"].family, catalog.unusable) == (Family.SD21, ())
    draws_like_diffusers(catalog, catalog["x-lcm"], Family.SD21, Kind.MERGED)


def test_sd_turbo_in_one_file_is_a_model_for_few_steps(catalog: Catalog, folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD21, Kind.MERGED, "sd_turbo")
    in_generative_models(load_file(path), path)
    assert ["name it in the catalogue" in file.reason for file in catalog.unusable] == [True]
    in_generative_models(load_file(path), path, **{"modelspec.predict_key": "v"})
    entry = catalog["sd-turbo"]
    assert (entry.family, entry.kind, catalog.unusable) == (Family.SD21, Kind.MERGED, ())
    draws_like_diffusers(catalog, entry, Family.SD21, Kind.MERGED)


def test_a_file_is_read_again_when_the_configuration_beside_it_comes_and_goes(catalog: Catalog, folder: Path) -> None:
    path = drop_checkpoint(folder, Family.SD21, Kind.MERGED, "x_LCM")
    assert [file.path for file in catalog.unusable] == [path]
    config = path.with_suffix(".yaml")
    config.write_text('    parameterization: "v"\n')
    assert (catalog["x-lcm"].family, catalog.unusable) == (Family.SD21, ())
    draws_like_diffusers(catalog, catalog["x-lcm"], Family.SD21, Kind.MERGED)
    config.unlink()
    assert catalog.get("x-lcm") is None


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_as_comfyui_saves_it_appears_for_its_family(
    catalog: Catalog, folder: Path, family: Family, whole: bool
) -> None:
    made = real_text(family)
    save_comfyui_lora(made, folder / "loras" / "x.safetensors", draw_whole_changes(made, 1), whole=whole)
    assert [adapter.name for adapter in catalog.adapters(family)] == ["x"]


def test_one_that_has_not_changed_is_found_without_a_look_at_the_others(
    catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop_checkpoint(folder, Family.SD15, Kind.NATIVE, "x")
    assert catalog["x"]
    scanned: list[object] = []
    scan = os.scandir

    def noting(place: str) -> object:
        scanned.append(place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", noting)
    assert catalog["x"].name == "x"
    assert not scanned
    path.unlink()
    assert catalog.get("x") is None
    assert scanned
