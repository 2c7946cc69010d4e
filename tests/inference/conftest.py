"""Fixtures for the tests of the drawing side."""

from __future__ import annotations

from tests.checkpoints import tiny_models

__all__ = ["tiny_models"]
