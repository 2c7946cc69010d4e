"""The bot starts only if the pictures of every model on the machine can be checked, or nobody asks for that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkers import save_classifier
from tests.checkpoints import TinyModels
from tests.e2e.conftest import started

pytestmark = pytest.mark.timeout(600)

HUB = 'weights = { hub = "nobody/no-such-classifier" }'
FOLDER = 'weights = { path = "classifier" }'


@pytest.fixture
def models(home: dict[str, str], tiny_models: TinyModels, tmp_path: Path) -> Path:
    """A catalogue with one model, on this machine and not harmless; its classifier is yet to come."""
    models = tmp_path / "models"
    shutil.copytree(tiny_models.native, models / "tiny-lcm")
    entry = tiny_models.catalog.read_text(encoding="utf-8").partition("[models.tiny-lora]")[0]
    text = entry.replace("harmless = true", "") + f"[safety]\n{FOLDER}\n"
    (models / "models.toml").write_text(text, encoding="utf-8")
    home["CATALOG"] = str(models / "models.toml")
    return models


def refusal(home: dict[str, str], folder: Path) -> str:
    """What ``python -m bot`` says that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "bot"], cwd=folder, env=home, capture_output=True, text=True, check=False, timeout=400
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_missing_checker_is_named_with_what_fetches_and_what_waives_it(
    home: dict[str, str], models: Path, tmp_path: Path
) -> None:
    catalog = models / "models.toml"
    catalog.write_text(catalog.read_text(encoding="utf-8").replace(FOLDER, HUB), encoding="utf-8")
    sentence = refusal(home, tmp_path)
    assert sentence.startswith("The bot cannot start. The pictures of “tiny” need a safety check")
    for words in ("nobody/no-such-classifier", "python -m inference pull safety", "SAFETY_CHECK=off"):
        assert words in sentence


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(("damage", "words"), [(cut_off, "cut off"), (pickled, "pytorch_model.bin")])
def test_a_damaged_checker_is_found_at_the_start(
    home: dict[str, str], models: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(save_classifier(models / "classifier"))
    sentence = refusal(home, tmp_path)
    assert sentence.startswith(f"The bot cannot start. The safety checker in {models / 'classifier'} cannot be used")
    assert words in sentence
    assert "SAFETY_CHECK=off" in sentence


def test_with_its_checker_the_bot_starts(home: dict[str, str], models: Path, tmp_path: Path) -> None:
    save_classifier(models / "classifier")
    with started(home, tmp_path) as (bot, _address):
        assert bot.poll() is None


def test_a_waived_check_lets_it_start(home: dict[str, str], models: Path, tmp_path: Path) -> None:
    with started({**home, "SAFETY_CHECK": "off"}, tmp_path) as (bot, _address):
        assert bot.poll() is None


def test_a_model_that_is_not_here_needs_no_checker(home: dict[str, str], models: Path, tmp_path: Path) -> None:
    shutil.rmtree(models / "tiny-lcm")
    with started(home, tmp_path) as (bot, _address):
        assert bot.poll() is None
