"""Models kept on disk: they come back as they were, damaged ones do not, and the budget holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from inference.catalog import Catalog
from inference.loading import open_model
from inference.memory import disk as disk_module
from inference.memory.disk import Disk, default_budget
from inference.memory.layout import Architecture
from inference.memory.part import Part, flatten
from tests.checkpoints import TinyModels

ROOMY = 10**9


@pytest.fixture(scope="module")
def parts(tiny_models: TinyModels) -> dict[str, Part]:
    catalog = Catalog.load(tiny_models.catalog)
    networks = open_model(catalog, catalog["tiny"], ()).networks(lambda: None)
    return {name: flatten(network, Architecture.of(network, torch.bfloat16)) for name, network in networks.items()}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_was_kept_comes_back_as_it_was(parts: dict[str, Part], tmp_path: Path) -> None:
    Disk(tmp_path / "weights", ROOMY).keep("model", parts)
    back = Disk(tmp_path / "weights", ROOMY).parts("model")
    assert back is not None
    assert back.keys() == parts.keys()
    for name, part in parts.items():
        assert back[name].label == part.label
        assert torch.equal(back[name].flat, part.flat)


def test_a_model_that_was_never_kept_is_not_there(tmp_path: Path) -> None:
    assert Disk(tmp_path, ROOMY).parts("model") is None


def test_devices_that_lay_weights_out_differently_do_not_meet(parts: dict[str, Part], tmp_path: Path) -> None:
    Disk(tmp_path, ROOMY, variant="cpu bf16").keep("model", parts)
    assert Disk(tmp_path, ROOMY, variant="cpu fp32").parts("model") is None


def test_what_older_code_kept_is_not_found(
    parts: dict[str, Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(tmp_path, ROOMY).keep("model", parts)
    monkeypatch.setattr(disk_module, "FORMAT", disk_module.FORMAT + 1)
    assert Disk(tmp_path, ROOMY).parts("model") is None


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
@pytest.mark.parametrize("harm", ["cut", "scribbled", "gone"])
def test_damaged_files_count_as_never_kept(parts: dict[str, Part], tmp_path: Path, ending: str, harm: str) -> None:
    disk = Disk(tmp_path, ROOMY)
    disk.keep("model", parts)
    path = next(path for path in tmp_path.iterdir() if path.suffix == ending)
    content = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "scribbled":
            path.write_bytes(b"\xff" * 64 + content[64:])
        case "gone":
            path.unlink()
    assert disk.parts("model") is None
    disk.keep("model", parts)
    if harm == "gone":
        assert disk.parts("model") is not None


def test_parts_that_models_share_are_kept_once(parts: dict[str, Part], tmp_path: Path) -> None:
    disk = Disk(tmp_path, ROOMY)
    disk.keep("model", parts)
    before = size(tmp_path)
    disk.keep("another", parts)
    assert size(tmp_path) - before < 1_000
    assert disk.parts("another") is not None


def test_the_budget_holds_and_what_was_used_longest_ago_goes(parts: dict[str, Part], tmp_path: Path) -> None:
    vae, unet = {"vae": parts["vae"]}, {"unet": parts["unet"]}
    disk = Disk(tmp_path, ROOMY)
    disk.keep("a", vae)
    disk.keep("b", unet)
    budget = size(tmp_path) + 10_000
    disk = Disk(tmp_path, budget)
    for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime)):
        os.utime(path, (age, age))
    assert disk.parts("a") is not None, "which is a use of it"
    disk.keep("c", {"text_encoder": parts["text_encoder"]})
    assert size(tmp_path) <= budget
    assert disk.parts("b") is None
    assert disk.parts("a") is not None
    assert disk.parts("c") is not None


def test_what_is_larger_than_the_budget_is_not_kept(parts: dict[str, Part], tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1_000)
    disk.keep("model", parts)
    assert disk.parts("model") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_logged_and_nothing_more(
    parts: dict[str, Part], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    Disk(tmp_path / "file", ROOMY).keep("model", parts)
    assert "could not be kept" in caplog.text


def test_a_file_that_another_process_takes_away_does_not_count(parts: dict[str, Part], tmp_path: Path) -> None:
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    budget = default_budget(tmp_path)
    assert budget > 0
    disk = Disk(tmp_path, ROOMY)
    disk.keep("model", parts)
    assert disk.parts("model") is not None


def test_by_default_a_tenth_of_what_is_free_is_taken(tmp_path: Path) -> None:
    budget = default_budget(tmp_path / "not" / "there")
    assert 0 < budget < 10**15
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert budget == pytest.approx(free / 10, rel=0.05)
