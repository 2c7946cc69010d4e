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


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SystemExit, match=r"(?s)npm could not fetch .*no such package"):
        data.build(tmp_path / "pictures.npz")
