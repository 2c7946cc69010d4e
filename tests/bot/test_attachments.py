"""Pictures as files: the PNG while it fits, then the best copy that does."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from bot.delivery.attachments import attachment


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A picture that compresses badly."""
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (128, 128), os.urandom(128 * 128 * 3)).save(path)
    return path


@pytest.fixture
def gradient(tmp_path: Path) -> Path:
    """A picture that WebP stores much smaller than this PNG does, without loss."""
    path = tmp_path / "gradient.png"
    across = Image.linear_gradient("L")
    Image.merge("RGB", (across, across.rotate(90), across.rotate(180))).save(path, compress_level=0)
    return path


def test_a_png_that_fits_is_sent_as_it_is(noise: Path) -> None:
    size = noise.stat().st_size
    sent = attachment(noise, limit=size)
    assert (sent.name, sent.content) == ("noise.png", noise.read_bytes())


def test_a_png_that_is_too_large_becomes_a_webp_of_the_same_pixels(gradient: Path) -> None:
    sent = attachment(gradient, limit=gradient.stat().st_size // 4)
    assert sent.name == "gradient.webp"
    with Image.open(io.BytesIO(sent.content)) as shown, Image.open(gradient) as drawn:
        assert shown.convert("RGB").tobytes() == drawn.tobytes()


@pytest.mark.parametrize("part", [2, 4, 16, 200])
def test_quality_and_then_size_fall_until_the_file_fits(noise: Path, part: int) -> None:
    limit = noise.stat().st_size // part
    sent = attachment(noise, limit=limit)
    assert len(sent.content) <= limit
    with Image.open(io.BytesIO(sent.content)) as shown:
        assert shown.format == "WEBP"


def test_a_picture_that_is_gone_is_missed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        attachment(tmp_path / "gone.png", limit=100)
