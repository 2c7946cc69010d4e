"""Fixtures for the tests of the drawing side."""

from __future__ import annotations

from tests.checkpoints import tiny_models
from tests.hub import hub

__all__ = ["hub", "tiny_models"]
