"""Limits of control groups, read from files laid out as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.container import memory_limit, processor_limit


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    folder = tmp_path / "fs"
    folder.mkdir()
    return folder


def limit(group: Path, *, memory: str, processors: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{memory}\n")
    (group / "cpu.max").write_text(f"{processors}\n")


def test_a_container_sees_its_own_group_as_the_topmost(groups: Path, membership: Path) -> None:
    limit(groups, memory="4294967296", processors="150000 100000")
    for own in ("0::/\n", "0::/docker/3f2a\n"):
        membership.write_text(own)
        assert memory_limit(groups, membership) == 4 * 2**30
        assert processor_limit(groups, membership) == 1.5


def test_the_least_of_all_groups_above_holds(groups: Path, membership: Path) -> None:
    membership.write_text("0::/system.slice/bot.service\n")
    limit(groups / "system.slice" / "bot.service", memory="8000", processors="max 100000")
    limit(groups / "system.slice", memory="6000", processors="400000 100000")
    limit(groups / "other.slice", memory="1", processors="1 100000")
    assert memory_limit(groups, membership) == 6000
    assert processor_limit(groups, membership) == 4.0


def test_without_limits_there_are_none(groups: Path, membership: Path) -> None:
    assert (memory_limit(groups, membership), processor_limit(groups, membership)) == (None, None)
    membership.write_text("9:name=systemd:/\n4:memory:/somewhere\n")
    assert (memory_limit(groups, membership), processor_limit(groups, membership)) == (None, None)
    membership.write_text("0::/user.slice\n")
    limit(groups / "user.slice", memory="max", processors="max 100000")
    assert (memory_limit(groups, membership), processor_limit(groups, membership)) == (None, None)
