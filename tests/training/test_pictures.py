"""The pictures' file: what is there is whole."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from training.pictures import SIDE, Picture, load, save

ROW = Picture(label="owl", tags=(), style="3d", code="1f989", group=3)


@contextmanager
def little_room() -> Iterator[None]:
    """No file may become larger than a hundred bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    path, rgba = tmp_path / "pictures.npz", np.full((1, SIDE, SIDE, 4), 255, np.uint8)
    with pytest.raises(OSError, match="large"), little_room():
        save([ROW], rgba, path)
    assert not path.exists()
    save([ROW], rgba, path)
    with pytest.raises(OSError, match="large"), little_room():
        save([ROW, ROW], np.concatenate([rgba, rgba]), path)
    assert load(path).rows == (ROW,)
