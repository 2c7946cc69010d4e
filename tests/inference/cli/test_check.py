"""``python -m inference check``: what looks at pictures beside the models is tried, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.catalog import Catalog
from inference.cli.check import check_all
from tests.checkers import save_classifier
from tests.checkpoints import TinyModels, tiny_vae

BESIDE = '\n[previews]\nemoji = { path = "taesd" }\n[safety]\nweights = { path = "classifier" }\n'


@pytest.fixture
def models(tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A catalogue of one model whose pictures are to be checked and previewed, by what is not there yet."""
    shutil.copytree(tiny_models.native, tmp_path / tiny_models.native.name)
    entry = tiny_models.catalog.read_text(encoding="utf-8").partition("[models.tiny-lora]")[0]
    (tmp_path / "models.toml").write_text(entry.replace("harmless = true", "") + BESIDE, encoding="utf-8")
    return tmp_path


def said_of(models: Path) -> tuple[bool, list[str]]:
    said: list[str] = []
    return check_all(Catalog.load(models / "models.toml"), said.append), said


def damage(folder: Path) -> None:
    """Cut the weights in ``folder`` short."""
    [weights] = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])


def test_a_checker_and_previews_that_are_not_here_are_told_and_nothing_wrong(models: Path) -> None:
    well, said = said_of(models)
    assert well
    assert any(line.startswith(f"· previews of emoji are not here: {models / 'taesd'}") for line in said)
    assert any(line.startswith("· ") and str(models / "classifier") in line for line in said)


def test_a_sound_checker_and_sound_previews_pass(models: Path) -> None:
    tiny_vae().save_pretrained(models / "taesd")
    save_classifier(models / "classifier")
    well, said = said_of(models)
    assert well
    assert "✓ previews of emoji" in said
    assert not any("classifier" in line for line in said)


def test_a_damaged_checker_and_damaged_previews_are_faults(models: Path) -> None:
    tiny_vae().save_pretrained(models / "taesd")
    save_classifier(models / "classifier")
    damage(models / "classifier")
    well, said = said_of(models)
    assert not well
    assert any(line.startswith(f"✗ The safety checker in {models / 'classifier'} cannot be used") for line in said)
    save_classifier(models / "classifier")
    damage(models / "taesd")
    well, said = said_of(models)
    assert not well
    assert any(line.startswith(f"✗ previews of emoji: {models / 'taesd'}: ") for line in said)
