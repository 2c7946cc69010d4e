"""The README's table, made from the measurements that are kept in the repository: ``python -m benchmarks.readme``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import machine_words, table_of
from benchmarks.results import FOLDER, read_results

README = Path(__file__).resolve().parent.parent / "README.md"
PLOT = README.parent / "docs" / "benchmarks.svg"
START, END = "<!-- benchmarks: written by python -m benchmarks.readme -->", "<!-- end of benchmarks -->"
KINDS = {"cuda": "On a GPU", "cpu": "On a CPU"}


def with_table(readme: str, folder: Path = FOLDER) -> str:
    """``readme`` with the results in ``folder`` between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the README lacks “{START}” or “{END}”")
    return f"{before}{START}\n{_tables(folder)}{END}{after}"


def _tables(folder: Path) -> str:
    parts = []
    for kind, title in KINDS.items():
        path = folder / f"{kind}.json"
        if path.exists():
            results = read_results(path)
            parts.append(f"\n{title}: {machine_words(results)}\n\n{table_of(results)}\n\n")
    if parts and PLOT.exists():
        parts.append(f"![How the cost grows](docs/{PLOT.name})\n\n")
    return "".join(parts)


def main() -> None:
    """Rewrite the README."""
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
