"""The import rules of the map: calls go down, and nothing heavy is pulled in where it does not belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors"}


def imports(path: Path, *, types: bool = True) -> Iterator[str]:
    """What a file imports; without ``types``, what it imports when it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and _is_for_types(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_for_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


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
    forbidden = ("bot.store", "bot.delivery", "inference.dispatch.dispatcher", "inference.dispatch.queue")
    assert not [name for name in imports(path) if name.startswith(forbidden)]


@pytest.mark.parametrize("package", ["bot", "inference"])
def test_rooms_call_one_way(package: str) -> None:
    """A folder, or a file beside the folders, is a room: none needs one that needs it, unless to name its types."""
    needs: dict[str, set[str]] = {}
    for path in modules(package):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        called = {name.split(".")[1] for name in imports(path, types=False) if name.startswith(f"{package}.")}
        needs.setdefault(room, set()).update(called - {room})
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the rooms


def test_the_bot_comes_up_without_torch() -> None:
    assert loaded_after("import bot.app") & HEAVY == set()


def test_a_worker_comes_up_without_discord() -> None:
    assert "discord" not in loaded_after("import inference.processes.worker")


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after ``statement``."""
    report = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())
