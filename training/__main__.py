"""python -m training: makes the built-in model, stage by stage or all at once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from training.recipe import RECIPES, STYLES, Recipe, device
from training.work import DEFAULT, Work

MODELS = Path(__file__).parents[1] / "models"
STAGES = ("data", "vae", "text", "base", "distil native", "distil lora", "style", "export", "evaluate")
OF_ANY_RECIPE = {"data", "export", "evaluate"}


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    recipe = RECIPES[options.recipe or ("gpu" if device().type == "cuda" else "cpu")]
    work = Work(options.work)
    chosen = " ".join(options.stage)
    stages = STAGES if chosen == "all" else tuple(stage for stage in STAGES if stage.startswith(chosen))
    if not stages:
        print(f"No stage is called “{chosen}”: {', '.join(STAGES)}, all", file=sys.stderr)
        return 2
    if not OF_ANY_RECIPE.issuperset(stages):
        work.claim(recipe.name)
    began = time.monotonic()
    for stage in stages:
        stage_began = time.monotonic()
        for act in _acts(stage, recipe, work, options.models):
            act()
        print(f"{stage} took {_since(stage_began)}.", flush=True)
    if len(stages) > 1:
        print(f"All {len(stages)} took {_since(began)}.")
    return 0


def _since(began: float) -> timedelta:
    return timedelta(seconds=round(time.monotonic() - began))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", nargs="+", help=f"one of: {', '.join(STAGES)}, all")
    parser.add_argument("--recipe", choices=tuple(RECIPES), help="by default gpu if there is one, otherwise cpu")
    parser.add_argument("--work", type=Path, default=DEFAULT, help="folder for the stages' results, of one recipe only")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder for the finished model's files")
    return parser


def _acts(stage: str, recipe: Recipe, work: Work, models: Path) -> list[Callable[[], object]]:
    """What a stage does; each one imports only what it needs."""
    match stage:
        case "data":
            return [partial(_data, work)]
        case "vae":
            from training import autoencoder, latents

            return [partial(autoencoder.train, recipe, work), partial(latents.encode, recipe, work)]
        case "text":
            from training import text

            return [partial(text.train, recipe, work)]
        case "base":
            from training import base

            return [partial(base.train, recipe, work)]
        case "distil native" | "distil lora":
            from training import distil

            form = distil.native if stage.endswith("native") else distil.lora
            return [partial(distil.walk, recipe, work), partial(form, recipe, work)]
        case "style":
            from training import style

            return [partial(style.train, name, recipe, work) for name in STYLES]
        case "export":
            return [partial(_export, work, models)]
        case _:
            from training import evaluate

            return [partial(_data, work), partial(evaluate.run, work, models)]


def _data(work: Work) -> None:
    from training import data

    if work.pictures.exists():
        print(f"{work.pictures} is there already.")
    else:
        print(f"{data.build(work.pictures)} pictures, {work.pictures.stat().st_size / 1e6:.1f} MB")


def _export(work: Work, models: Path) -> None:
    from training.shipping import ship

    print(f"{ship(work, models) / 1e6:.1f} MB under {models}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from the last checkpoint.")
