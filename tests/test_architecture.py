"""The import rules of the map: calls go down, and nothing heavy is pulled in where it does not belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors"}
LIGHT_FOR_THE_BOT = (
    "inference.contract",
    "inference.catalog",
    "inference.dispatcher",
    "inference.errors",
    "inference.fetching",
    "inference.process",
    "inference.queue",
    "inference.validation",
)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("inference"), ids=str)
def test_the_drawing_side_knows_no_discord_and_no_bot(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & {"discord", "simcord", "aiosqlite", "bot"}


@pytest.mark.parametrize("path", modules("bot"), ids=str)
def test_the_discord_side_knows_no_torch(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & HEAVY


@pytest.mark.parametrize("path", modules("bot/cogs"), ids=str)
def test_cogs_know_neither_the_store_nor_the_queue(path: Path) -> None:
    forbidden = ("bot.store", "bot.delivery", "inference.dispatcher", "inference.queue")
    assert not [name for name in imports(path) if name.startswith(forbidden)]


def test_the_bot_comes_up_without_torch() -> None:
    assert loaded_after("import bot.app") & HEAVY == set()


def test_what_the_bot_uses_of_the_drawing_side_comes_without_torch() -> None:
    assert loaded_after("; ".join(f"import {name}" for name in LIGHT_FOR_THE_BOT)) & HEAVY == set()


def test_a_worker_comes_up_without_discord() -> None:
    assert "discord" not in loaded_after("import inference.worker")


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after ``statement``."""
    report = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())
