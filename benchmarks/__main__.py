"""python -m benchmarks: measures what the README claims, side by side with the usual ways, on this machine.

python -m benchmarks                      every row that this machine can run
python -m benchmarks --rows switch,zipf   only these
python -m benchmarks --gpu                the rows of a GPU and the tests that need one, in eight minutes together
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu_tests import TESTS_S, run_gpu_tests
from benchmarks.machine import Machine
from benchmarks.quiet import quieten
from benchmarks.report import table_of
from benchmarks.results import FOLDER, Results
from benchmarks.rows import BY_IMPORTANCE, ROWS
from benchmarks.rows.row import Row
from benchmarks.run import COMPILED, run_rows
from benchmarks.session import Session, workload_for

SCRATCH = Path(__file__).resolve().parent.parent / "data" / "benchmarks"
GPU_MINUTES = 8.0


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() and options.device != "cpu" else "cpu")
    if options.gpu and device.type != "cuda":
        print("torch finds no usable GPU on this machine.", file=sys.stderr)
        return 2
    rows = rows_for(options.rows, device.type)
    if not rows:
        print(f"No such row for {device.type}: {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2
    started = time.monotonic()
    quieten()
    if options.gpu:
        options.minutes = options.minutes or GPU_MINUTES * (COMPILED if options.compile else 1)
    path = options.results / f"{device.type}.json"
    results = Results.going_on(path, Machine.of(device))
    workload = workload_for(device)
    if options.quick:
        workload = replace(workload, rounds=1)
    ends = math.inf if options.minutes is None else started + 60 * options.minutes
    session = Session(device, workload, options.scratch, compiler="inductor" if options.compile else None)
    run_rows(rows, session, results, path, ends=ends)
    print(f"\n{table_of(results)}\n\nAll figures: {path}. To put them into the README: python -m benchmarks.readme")
    if options.gpu:
        session.without_engine()
        print(f"\n{run_gpu_tests(seconds=min(TESTS_S, ends - time.monotonic()))}", flush=True)
    return 0


def rows_for(names: str, kind: str) -> list[Row]:
    """The rows with these ``names`` (separated by commas; all, if empty) that a machine of this kind runs, the most
    important ones first."""
    fit = sorted((row for row in ROWS if kind in row.bound_s), key=lambda row: BY_IMPORTANCE.index(row.name))
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    return [row for row in fit if not wanted or row.name in wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", help=f"separated by commas, of: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--gpu", action="store_true", help="GPU rows and the tests that need a GPU; fails without one")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument(
        "--compile",
        action="store_true",
        help=f"compile our networks, as COMPILE=on does; takes up to {COMPILED:g} times as long",
    )
    parser.add_argument("--minutes", type=float, help=f"for everything; by default {GPU_MINUTES:g} with --gpu")
    parser.add_argument("--quick", action="store_true", help="one round of each row: whether it runs, not how fast")
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder that the figures are written to")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="where checkpoints with random weights are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
