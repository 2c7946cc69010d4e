"""A file is written whole or not at all, and as if it had been written in the plain way."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.whole_files import replace_file


def test_a_file_is_readable_by_others_as_the_system_allows(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"content")
    (tmp_path / "b").write_bytes(b"content")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "a", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
