"""The command line: the arguments of ``python -m inference``, and how errors are reported."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from inference.catalog import Catalog, CatalogError
from inference.contract import MAX_COUNT, MAX_SEED, ImageRequest, Variation
from inference.errors import InferenceError
from inference.validation import known_as, parse_adapter, parse_real, parse_size, parse_whole

CATALOG = Path(__file__).resolve().parents[2] / "models" / "models.toml"


class _Parser(argparse.ArgumentParser):
    """Reports errors in one sentence, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 on success, 1 if a picture differs or a model fails, 2 for errors."""
    try:
        return _run(_parser().parse_args(argv))
    except (InferenceError, CatalogError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            print(interrupt, file=sys.stderr)
        return 130
    except BrokenPipeError:  # as by “… models | head”; buffered output has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    catalog = Catalog.load(arguments.catalog)
    if arguments.command == "pull":
        from inference.cli.pull import pull_all

        return 0 if pull_all(catalog, arguments.models, print, partial(print, file=sys.stderr)) else 2
    from inference.cli import commands  # only now: --help, mistyped options and downloads need no torch

    match arguments.command:
        case "draw":
            request = _request(arguments, catalog)
            hardware = commands.Hardware(device=arguments.device, precision=arguments.precision)
            checked = not arguments.no_safety_check
            commands.draw(catalog, request, hardware, arguments.out, print, safety_check=checked)
        case "redraw":
            hardware = commands.Hardware(device=arguments.device, precision=arguments.precision)
            return 0 if commands.redraw(catalog, arguments.picture, hardware, print) else 1
        case "check":
            from inference.cli.check import check_all

            return 0 if check_all(catalog, print) else 1
        case _:
            commands.list_models(catalog, print)
    return 0


def _request(arguments: argparse.Namespace, catalog: Catalog) -> ImageRequest:
    """The order; options that were not given take the model's defaults."""
    entry = catalog.find(arguments.model) if arguments.model else catalog.default
    width, height = arguments.size or (entry.width, entry.height)
    return ImageRequest(
        prompt=arguments.prompt,
        negative=arguments.negative,
        model=entry.name,
        adapters=known_as(arguments.lora, catalog, entry),
        seed=_or_random(arguments.seed),
        count=arguments.count,
        steps=int(entry.steps.default) if arguments.steps is None else arguments.steps,
        guidance=entry.guidance.default if arguments.guidance is None else arguments.guidance,
        width=width,
        height=height,
        bucket=arguments.bucket,
        guided_bucket=arguments.guided_bucket,
        variation=_variation(arguments),
    )


def _variation(arguments: argparse.Namespace) -> Variation | None:
    if not arguments.variation_strength:
        return None
    return Variation(seed=_or_random(arguments.variation_seed), strength=arguments.variation_strength)


def _or_random(seed: int | None) -> int:
    return secrets.randbelow(MAX_SEED + 1) if seed is None else seed


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m inference",
        description="Draw pictures with Latent Consistency Models, without the bot and its queue.",
    )
    parser.add_argument(
        "--catalog",
        type=Path,
        default=Path(os.environ.get("CATALOG") or CATALOG).expanduser(),
        metavar="FILE",
        help=f"the catalogue of models; by default that of the setting CATALOG, or {CATALOG}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_draw(
        commands.add_parser("draw", help="draw a prompt", description="Draw a prompt; save PNGs with their recipe.")
    )
    commands.add_parser("models", help="list the models and whether they are on this machine")
    pull = commands.add_parser(
        "pull",
        help="download models from the hub",
        description="Download models or LoRAs of the catalogue from the Hugging Face hub into its cache. An "
        "interrupted download resumes where it stopped. HF_TOKEN, HF_HOME and HF_ENDPOINT work as usual, and can be "
        "set in .env.",
    )
    pull.add_argument(
        "models",
        nargs="+",
        metavar="NAME",
        help="a model or LoRA that “models” lists, or “safety” for the checker; if one fails, the rest are still tried",
    )
    commands.add_parser(
        "check",
        help="load every model and LoRA that is on this machine",
        description="Load every model and LoRA that is on this machine, one after the other, in float32 on the CPU, "
        "and say what is wrong with those that cannot be used. Exit status 0: all can be used; 1: some cannot.",
    )
    redraw = commands.add_parser(
        "redraw",
        help="draw a picture again from its own recipe",
        description="Draw a picture again from its own recipe. Exit status 0: the pixels are identical; "
        "1: they differ.",
    )
    redraw.add_argument("picture", type=Path, help="a PNG drawn by this program")
    _add_hardware(redraw, "as in the recipe")
    return parser


def _add_draw(draw: argparse.ArgumentParser) -> None:
    draw.add_argument("prompt", help="what the picture should show")
    draw.add_argument(
        "--model", metavar="NAME", help="a model that “models” lists; by default the catalogue's default model"
    )
    draw.add_argument(
        "--seed",
        type=partial(parse_whole, "seed"),
        help=f"0 to {MAX_SEED}, by default random; picture i gets seed + i",
    )
    draw.add_argument(
        "--variation-strength",
        type=partial(parse_real, "variation strength"),
        default=0.0,
        metavar="STRENGTH",
        help="0 to 1, by default 0: how far to depart from the seed's picture; above 0, all pictures share the seed",
    )
    draw.add_argument(
        "--variation-seed",
        type=partial(parse_whole, "variation seed"),
        metavar="SEED",
        help="which variation, by default random; picture i gets this + i; has no effect without a strength",
    )
    draw.add_argument("--count", type=partial(parse_whole, "count"), default=1, help=f"1 to {MAX_COUNT} pictures")
    draw.add_argument("--steps", type=partial(parse_whole, "number of steps"), help="by default the model's own")
    draw.add_argument("--guidance", type=partial(parse_real, "guidance"), help="by default the model's own")
    draw.add_argument(
        "--size", type=parse_size, metavar="WxH", help="in pixels, multiples of 8; by default the model's own"
    )
    draw.add_argument(
        "--negative",
        default="",
        metavar="TEXT",
        help="what to avoid; works only with guidance above 1, and never with a native LCM",
    )
    draw.add_argument(
        "--lora",
        type=parse_adapter,
        action="append",
        default=[],
        metavar="NAME:STRENGTH",
        help="a LoRA to add; may be repeated",
    )
    draw.add_argument(
        "--bucket", type=partial(parse_whole, "bucket"), help="pad the batch to this many rows, as an earlier one was"
    )
    draw.add_argument(
        "--guided-bucket",
        type=partial(parse_whole, "guided bucket"),
        help="the same for the second pass that guidance above 1 needs",
    )
    draw.add_argument(
        "-o", "--out", type=Path, default=Path("out"), metavar="FOLDER", help="where to save; by default out/"
    )
    draw.add_argument("--no-safety-check", action="store_true", help="do not check whether the pictures are explicit")
    _add_hardware(draw, "chosen automatically")


def _add_hardware(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument("--device", default="auto", help=f"cuda, cuda:1, xpu, mps, cpu; by default {otherwise}")
    parser.add_argument("--precision", default="auto", help=f"fp32, fp16, bf16; by default {otherwise}")
