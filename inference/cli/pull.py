"""What ``python -m inference pull`` does: downloads with a progress bar, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from inference.catalog import Catalog
from inference.errors import InferenceError
from inference.hub.downloads import pull

Say = Callable[[str], None]


def pull_all(catalog: Catalog, typed: Sequence[str], say: Say, complain: Say) -> bool:
    """Bring every model or LoRA here that is ``typed``, by its name or title; True if all of them came.

    What fails is complained about, and the others are tried all the same.
    """
    well = True
    for one in typed:
        try:
            _pull(catalog, catalog.name_meant(one), say)
        except InferenceError as error:
            complain(str(error))
            well = False
    return well


def _pull(catalog: Catalog, name: str, say: Say) -> None:
    if not catalog.missing(name) and catalog.missing_preview(name) is None:
        say(f"{name} is on this machine already.")
        return
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
