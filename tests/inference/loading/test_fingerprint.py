"""Hashes of files: each computed once, also over restarts, and anew when the file is another one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from inference.loading.fingerprint import WORTH_BYTES, FileHashes, combine

LARGE = b"x" * WORTH_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read to be hashed."""
    read: list[str] = []

    def counting(stream: Any, name: str) -> Any:
        read.append(Path(stream.name).name)
        return original(stream, name)

    original = hashlib.file_digest
    monkeypatch.setattr("inference.loading.fingerprint.hashlib.file_digest", counting)
    return read


def test_a_file_is_hashed_once_and_known_again_after_a_restart(file: Path, tmp_path: Path, computed: list[str]) -> None:
    before = FileHashes(tmp_path / "kept")
    assert before(file) == before(file) == hashlib.sha256(LARGE).hexdigest()
    assert FileHashes(tmp_path / "kept")(file) == before(file)
    assert computed == ["model.safetensors"]


def test_a_file_in_its_place_is_another_one_even_with_its_size_and_time(file: Path, tmp_path: Path) -> None:
    before, stat = FileHashes(tmp_path / "kept")(file), file.stat()
    file.write_bytes(LARGE[:-1] + b"y")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert FileHashes(tmp_path / "kept")(file) != before


def test_small_files_are_not_worth_keeping_a_hash_of(tmp_path: Path, computed: list[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    for _ in range(2):
        FileHashes(tmp_path / "kept")(path)
    assert computed == ["config.json"] * 2
    assert not (tmp_path / "kept").exists()


def test_what_is_damaged_or_cannot_be_written_costs_only_the_time(
    file: Path, tmp_path: Path, computed: list[str]
) -> None:
    right = FileHashes(tmp_path / "kept")(file)
    [kept] = (tmp_path / "kept").iterdir()
    kept.write_bytes(b"\xff nonsense")
    assert FileHashes(tmp_path / "kept")(file) == right
    assert kept.read_text() == right
    assert FileHashes(file / "no folder")(file) == right
    kept.unlink()
    kept.mkdir()
    assert FileHashes(tmp_path / "kept")(file) == right
    assert list((tmp_path / "kept").iterdir()) == [kept]
    assert len(computed) == 4


def test_a_file_whose_name_is_no_utf_8_is_hashed_as_well(file: Path, tmp_path: Path) -> None:
    try:
        odd = file.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    assert FileHashes(tmp_path / "kept")(odd) == hashlib.sha256(LARGE).hexdigest()
    assert combine(["é"]) == hashlib.sha256("é".encode()).hexdigest()


def test_the_hubs_cache_names_files_by_their_hash(tmp_path: Path, computed: list[str]) -> None:
    (tmp_path / ("a" * 64)).write_bytes(LARGE)
    (tmp_path / "model.safetensors").symlink_to(tmp_path / ("a" * 64))
    assert FileHashes()(tmp_path / "model.safetensors") == "a" * 64
    assert computed == []


def test_what_is_at_hand_takes_no_reading(file: Path, tmp_path: Path, computed: list[str]) -> None:
    hashes = FileHashes(tmp_path / "kept")
    with pytest.raises(LookupError):
        hashes.at_hand()(file)
    right = hashes(file)
    assert hashes.at_hand()(file) == FileHashes(tmp_path / "kept").at_hand()(file) == right
    assert computed == ["model.safetensors"]
