"""Fixtures for the tests of the catalogue."""

from __future__ import annotations

from tests.inference.catalog.folders import catalog, folder

__all__ = ["catalog", "folder"]
