"""What holds for all tests: no setting of this machine reaches them, and no example of Hypothesis is timed."""

from __future__ import annotations

import gc
import os
from dataclasses import fields

import hypothesis
import pytest

from bot.settings import Settings

OURS = [setting.name.upper() for setting in fields(Settings)]
THEIRS = [
    "HF_HUB_OFFLINE",
    "HF_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
]
for name in (*OURS, *THEIRS):  # before the hub's client is imported: that is when it looks
    os.environ.pop(name, None)
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = "127.0.0.1,localhost"

hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def without_the_env_file_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, called in this process, would keep what it says for the tests that follow."""
    monkeypatch.setattr("inference.__main__.read_env", lambda folders: {})


def pytest_collection_finish() -> None:
    """What has been imported stays: collections of garbage, which some tests ask for all the time, may pass over it."""
    gc.freeze()
