"""Whether what torch compiles for a processor can be built here."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="the inductor needs a compiler for C++, and Python's headers",
)
