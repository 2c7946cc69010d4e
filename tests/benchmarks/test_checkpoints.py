"""Checkpoints with random weights: of one shape, and all different."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from benchmarks.architectures import MINIATURE
from benchmarks.checkpoints import MOVED, write_checkpoints

CPU = torch.device("cpu")


@pytest.mark.parametrize("file", MOVED)
def test_every_network_of_every_checkpoint_is_another_one(tmp_path: Path, file: str) -> None:
    made = write_checkpoints(MINIATURE, tmp_path, count=3, device=CPU)
    files = [made.checkpoint(name) / file for name in made.names]
    assert len({sha256(path.read_bytes()).digest() for path in files}) == 3
    assert len({path.stat().st_size for path in files}) == 1


def test_what_is_there_is_kept_and_what_was_left_unfinished_is_made_anew(tmp_path: Path) -> None:
    made = write_checkpoints(MINIATURE, tmp_path, count=1, device=CPU)
    before = dict(times(made.checkpoint(made.name())))
    unfinished = made.folder / f"{made.name(1)}.unfinished" / "unet"
    unfinished.mkdir(parents=True)
    (unfinished / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
    made = write_checkpoints(MINIATURE, tmp_path, count=2, device=CPU)
    assert dict(times(made.checkpoint(made.name()))) == before
    assert not unfinished.exists()
    assert len(list(times(made.checkpoint(made.name(1))))) == len(before)


def times(folder: Path) -> Iterator[tuple[Path, int]]:
    """When each file in ``folder`` was written."""
    yield from ((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())
