"""Fixtures for the tests of the drawing side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.loading import load as load_module
from tests.checkpoints import TinyModels, tiny_models
from tests.hub import hub

__all__ = ["hub", "tiny_models"]


@pytest.fixture
def copied(tiny_models: TinyModels, tmp_path: Path) -> TinyModels:
    """The tiny checkpoints, to be changed or damaged."""
    return TinyModels(Path(shutil.copytree(tiny_models.folder, tmp_path / "models")))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose files have been read, in order."""
    names: list[str] = []
    networks = load_module.ModelFiles.networks

    def noted(files: load_module.ModelFiles, *args: object) -> object:
        names.append(files.entry.name)
        return networks(files, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(load_module.ModelFiles, "networks", noted)
    return names
