"""The plot beside the README's table, from the measurements kept in the repository: ``python -m benchmarks.plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.readme import PLOT
from benchmarks.report import duration
from benchmarks.results import FOLDER, Figures, read_results

OURS, THEIRS = "#5865f2", "#9aa0a6"


def draw(results: Path, target: Path) -> None:
    """One panel for each quantity that the cost grows with."""
    from matplotlib import pyplot

    kept = read_results(results)
    grown = [figures for figures in kept.rows.values() if figures.measured.points]
    pyplot.rcParams |= {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    pyplot.rcParams |= {"axes.spines.right": False, "axes.spines.top": False}
    figure, axes = pyplot.subplots(1, len(grown), figsize=(3.4 * len(grown), 2.6), squeeze=False, sharey=True)
    for panel, figures in zip(axes[0], grown, strict=True):
        _panel(panel, figures)
    axes[0][0].set_ylabel("seconds per picture")
    figure.suptitle(
        f"{kept.machine.name}, {kept.machine.cores} cores: {grown[0].title.partition(' at ')[0]} model", fontsize=9
    )
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def _panel(panel: Any, figures: Figures) -> None:
    points = figures.measured.points
    places = [point.x for point in points]
    for label, colour, values in (
        (figures.baseline, THEIRS, [point.theirs for point in points]),
        ("this bot", OURS, [point.ours for point in points]),
    ):
        panel.plot(places, values, marker="o", markersize=3, color=colour, label=label)
        beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        panel.annotate(duration(values[-1]), (places[-1], values[-1]), fontsize=7, color=colour, **beside)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.set_xlabel(figures.measured.axis)
    panel.legend(frameon=False, fontsize=7)


def main() -> None:
    """Plot what was measured on a GPU, or else on a processor."""
    kinds = [FOLDER / f"{kind}.json" for kind in ("cuda", "cpu")]
    draw(next(path for path in kinds if path.exists()), PLOT)


if __name__ == "__main__":
    main()
