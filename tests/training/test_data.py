"""Fetching the emoji: what stands in the way is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import data


def test_without_npm_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"Install Node\.js"):
        data.build(tmp_path / "pictures.npz")
    assert not (tmp_path / "pictures.npz").exists()


def test_without_internet_one_is_told_which_file_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=f"another machine, and copy the file .* to {tmp_path / 'pictures.npz'}"):
        data.build(tmp_path / "pictures.npz")


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SystemExit, match=r"(?s)npm could not fetch .*no such package"):
        data.build(tmp_path / "pictures.npz")


@pytest.mark.parametrize(
    ("label", "group", "wanted"),
    [
        ("red apple", 4, True),
        ("bow and arrow", 7, True),
        ("alarm clock", 5, True),
        ("one o’clock", 5, False),
        ("mobile phone with arrow", 7, True),
        ("right arrow", 8, False),
        ("glowing star", 5, True),
        ("waving hand", 1, False),
        ("recycling symbol", 8, True),
        ("ATM sign", 8, False),
    ],
)
def test_things_are_taken_and_signs_are_not(label: str, group: int, wanted: bool) -> None:
    assert data._wanted({"label": label, "group": group}) is wanted
