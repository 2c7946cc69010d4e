"""How long the built-in model takes for one picture in four steps, from prompt to pixels, model in memory.

    python -m benchmarks.builtin

The first picture is not counted; every picture has a prompt of its own, so no prompt embedding is reused.
"""

from __future__ import annotations

import statistics
import sys
import uuid
from pathlib import Path

from inference.batching import batch_of
from inference.catalog import Catalog
from inference.contract import ImageRequest
from inference.drawing.engine import Engine

CATALOG = Path(__file__).resolve().parent.parent / "models" / "models.toml"
PICTURES = 20


def main() -> int:
    """Draw with every built-in model; prints the median and the spread."""
    catalog = Catalog.load(CATALOG)
    engine = Engine(catalog=catalog)
    print(f"on {engine.device_name} in {engine.precision_name}, {PICTURES} pictures each")
    for name in ("emoji", "emoji-lora", "emoji-flat", "emoji-ink"):
        seconds = [_draw(engine, catalog, name, seed) for seed in range(PICTURES + 1)][1:]
        spread = f"from {min(seconds):.3f} to {max(seconds):.3f}"
        print(f"{name:<12} {statistics.median(seconds):.3f} s  ({spread})", flush=True)
    return 0


def _draw(engine: Engine, catalog: Catalog, name: str, seed: int) -> float:
    entry = catalog[name]
    request = ImageRequest(
        prompt=f"a red apple, number {seed}",
        model=name,
        seed=seed,
        count=1,
        steps=4,
        guidance=entry.guidance.default,
        width=entry.width,
        height=entry.height,
    )
    return engine.draw(batch_of({str(uuid.UUID(int=seed)): request}), lambda progress: None).draw_s


if __name__ == "__main__":
    sys.exit(main())
