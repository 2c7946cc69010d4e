"""The catalogue that names the checkpoints of a benchmark, as an operator would write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.checkpoints import Checkpoints
from inference.catalog import Catalog


def write_catalogue(path: Path, groups: Iterable[Checkpoints]) -> Catalog:
    """Write every checkpoint of ``groups`` with its LCM-LoRA, one with the tiny autoencoder, and the styles."""
    groups = list(groups)
    blocks = [f'default = "{groups[0].name()}"']
    for group in groups:
        blocks += [_model(group, name) for name in (*group.names, group.fast)]
        blocks.append(
            f"[adapters.{group.style}]\n"
            f'family = "{group.architecture.family}"\n'
            f"weights = {{ path = '{group.style_lora}' }}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return Catalog.load(path)


def _model(group: Checkpoints, name: str) -> str:
    shape = group.architecture
    lines = [
        f"[models.{name}]",
        f'family = "{shape.family}"',
        'kind = "lora"',
        f"weights = {{ path = '{group.checkpoint(name)}' }}",
        f"lcm_lora = {{ path = '{group.lcm_lora}' }}",
        f"size = [{shape.side}, {shape.side}]",
        "sides = [8, 2048]",
        "harmless = true",
    ]
    if name == group.fast:
        lines.append(f"vae = {{ path = '{group.tiny_vae}' }}")
    elif shape.two_encoders:
        lines.append(f"vae = {{ path = '{group.plain_vae}' }}")
    return "\n".join(lines)
