"""The folders that people drop files into, and files to drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.catalog import Catalog
from inference.catalog.entries import Family, Kind
from tests.inference.likeness import model
from tests.layouts import denoiser, save_single_file

FAMILIES = (Family.SD15, Family.SDXL, Family.SSD1B, Family.VEGA)
CATALOG = """
default = "named"
[models.named]
family = "sd15"
kind = "native"
weights = { path = "checkpoints/named.safetensors" }
size = [64, 64]
sides = [64, 64]
[scan]
checkpoints = "checkpoints"
loras = "loras"
[scan.lcm_loras]
sd15 = { path = "lcm-sd15.safetensors" }
sdxl = { path = "lcm-sdxl.safetensors" }
ssd1b = { path = "lcm-ssd1b.safetensors" }
vega = { path = "lcm-vega.safetensors" }
"""


def real_text(family: Family) -> Any:
    """A pipeline to make LoRAs for that tell their family."""
    made = model(family, Kind.LORA)
    return type(made)(**{**made.components, "unet": denoiser(family)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.toml").write_text(CATALOG)
    for name in ("checkpoints", "loras"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def catalog(folder: Path) -> Catalog:
    return Catalog.load(folder / "models.toml")


def drop_checkpoint(folder: Path, family: Family, kind: Kind, name: str) -> Path:
    path = folder / "checkpoints" / f"{name}.safetensors"
    save_single_file(model(family, kind), path)
    return path
