"""``python -m inference pull``: downloads models with a progress bar, and reports the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from inference.catalog import Catalog
from inference.errors import InferenceError
from inference.hub.downloads import pull

Say = Callable[[str], None]


def pull_all(catalog: Catalog, typed: Sequence[str], say: Say, complain: Say) -> bool:
    """Download every model or LoRA whose name or title is in ``typed``; True if all of them arrived.

    Failures are reported, and the others are still tried.
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
        kept = f"Interrupted. What was downloaded is kept: “python -m inference pull {name}” resumes the download."
        raise KeyboardInterrupt(kept) from None
    say(f"{name} is on this machine now.")


def _pull_with_bar(catalog: Catalog, name: str) -> None:
    with tqdm(desc=name, unit="B", unit_scale=True, leave=False, delay=1e-3) as bar:  # not before the first progress

        def follow(here: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = here  # the bytes of an earlier attempt do not count towards the speed
            bar.update(here - bar.n)

        pull(catalog, name, follow)
