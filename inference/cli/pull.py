"""What ``python -m inference pull`` does: downloads with a progress bar, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from inference.catalog import Catalog
from inference.hub.downloads import pull


def pull_all(catalog: Catalog, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Bring every model or LoRA of ``names`` here; raises ``InferenceError``."""
    for name in names:
        if not catalog.missing(name) and catalog.missing_preview(name) is None:
            say(f"{name} is on this machine already.")
            continue
        try:
            _pull_with_bar(catalog, name)
        except KeyboardInterrupt:
            kept = f"Interrupted. What has arrived is kept: “python -m inference pull {name}” goes on from there."
            raise KeyboardInterrupt(kept) from None
        say(f"{name} is on this machine now.")


def _pull_with_bar(catalog: Catalog, name: str) -> None:
    with tqdm(desc=name, unit="B", unit_scale=True, leave=False, delay=1e-3) as bar:  # not before the first news

        def follow(here: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = here  # what an earlier attempt brought says nothing about the speed of this one
            bar.update(here - bar.n)

        pull(catalog, name, follow)
