"""The memory and CPU limits that a container or a service manager sets.

The machine's own numbers are larger: a process that takes half of the machine's memory is killed, and one that computes
on all its CPUs is throttled most of the time. Linux control groups, version 2: the limits of the process's own group
and of all groups above it apply together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED = "max"


def memory_limit(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes of memory that this process and the others in its group may use; None if unlimited."""
    granted = [int(limit) for (limit,) in _limits("memory.max", groups, membership)]
    return min(granted, default=None)


def processor_limit(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """How many CPUs' time they may use together; None if unlimited."""
    granted = [int(quota) / int(period) for quota, period in _limits("cpu.max", groups, membership)]
    return min(granted, default=None)


def _limits(name: str, groups: Path, membership: Path) -> Iterator[list[str]]:
    """The fields of every file ``name`` that sets a limit. A container may see its own group as the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for own in (line.removeprefix("0::/") for line in lines if line.startswith("0::/")):
        for group in (groups / own, *(groups / own).parents):
            file = group / name
            if not group.is_relative_to(groups) or not file.is_file():
                continue
            words = file.read_text(encoding="utf-8").split()
            if words and words[0] != UNLIMITED:
                yield words
