"""A run at the smallest sizes there are, with checkpoints made once.

Graphs are the same, however they are compiled; the inductor would take a minute and a half.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.architectures import MINIATURE
from benchmarks.session import Session, Workload

TINY = Workload(
    main=MINIATURE,
    side=64,
    large=None,
    many=MINIATURE,
    many_side=64,
    compiled=MINIATURE,
    compiled_side=64,
    waiting=3,
    theirs=1,
    slice=2,
    models=2,
    requests=6,
    rounds=1,
    merges=1,
    repeats=1,
    growth_sides=(32, 64),
    growth_models=(1, 2),
    growth_waiting=(1, 2),
    cache_bytes=2**30,
    compiler="eager",
)


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One for all tests, as one run has one."""
    return Session(torch.device("cpu"), TINY, tmp_path_factory.mktemp("checkpoints"))
