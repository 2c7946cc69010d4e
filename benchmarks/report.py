"""Formats figures for the terminal and, in the same words, for the README."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import Figures, Results, Target
from benchmarks.timing import Sample

DASH = "–"


def line_of(figures: Figures) -> str:
    """All figures of a row, for the terminal."""
    measured = figures.measured
    head = f"{figures.number:>3}  {figures.title}"
    if measured.skipped:
        return f"{head}: skipped, {measured.skipped}"
    lines = [head, *(f"       {detail}" for detail in _details(figures))]
    return "\n".join(lines)


def _details(figures: Figures) -> Iterator[str]:
    measured = figures.measured
    if measured.ours:
        yield f"ours {spread(measured.ours, figures.shown)}"
    if measured.theirs:
        yield f"{figures.baseline} {spread(measured.theirs, figures.shown)}"
    if figures.target != Target():
        yield f"target {target_words(figures)}; measured {ratio_words(figures.ratio)}; {reached_words(figures)}"
    if measured.arithmetic:
        share = f"{measured.arithmetic.ceiling_share:.0%} of the fastest this machine multiplies"
        yield f"{measured.arithmetic.tflops:.3g} useful TFLOP/s, {share}"
    if measured.ours and measured.ours.peak_bytes:
        theirs = f", {measured.theirs.peak_bytes / 2**30:.2f} GiB theirs" if measured.theirs else ""
        both = f"{measured.ours.peak_bytes / 2**30:.2f} GiB ours{theirs}"
        yield f"memory on top of what was there before: {both} (of a GPU what torch reserved, graphs included)"
    if measured.likeness:
        like = measured.likeness
        yield f"same picture: {like.psnr_db:g} dB (at least {like.needed_db:g} needed; {like.precisions})"
    for point in measured.points:
        sides = f"ours {duration(point.ours)}, {figures.baseline} {duration(point.theirs)}"
        yield f"{point.x:>6g} {measured.axis}: {sides}"
    for name, value in measured.notes.items():
        yield f"{name}: {_plain(value)}"


def spread(sample: Sample, shown: str) -> str:
    """The median with the range around it."""
    low, high = (sample.high, sample.low) if shown == "rate" and sample.median <= 1 else (sample.low, sample.high)
    return (
        f"{amount(sample.median, shown)} ({amount(low, shown)} to {amount(high, shown)}; {len(sample.values)} rounds)"
    )


def amount(value: float, shown: str) -> str:
    """A value as people read it: a rate (unless a picture takes more than a second), a duration or a count."""
    match shown:
        case "rate" if value <= 1:
            return f"{_digits(1 / value)}/s"
        case "count":
            return f"{value:g}"
        case _:
            return duration(value)


def duration(seconds: float) -> str:
    """A duration in the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= scale:
            return f"{_digits(seconds / scale)} {unit}"
    return f"{_digits(seconds / 1e-6)} µs"


def target_words(figures: Figures) -> str:
    """The target."""
    target = figures.target
    words = [] if target.ratio is None else [f"≥ {target.ratio:g}×"]
    if target.limit is not None:
        sign = "≥" if figures.shown == "rate" else "≤" if target.limit else ""
        words.append(f"{sign} {amount(target.limit, figures.shown)}".strip())
    return ", ".join(words) or DASH


def ratio_words(ratio: float | None) -> str:
    """By how many times ours is better."""
    return DASH if ratio is None else f"{_digits(ratio)}×"


def reached_words(figures: Figures) -> str:
    """Whether the target is reached."""
    return {True: "reached", False: "not reached", None: DASH}[figures.reached]


def table_of(results: Results) -> str:
    """A Markdown table of all rows that have a target and were measured."""
    lines = [
        "| what | usual way | here | better by | target | reached |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for figures in results.rows.values():
        measured = figures.measured
        if measured.ours is None or figures.target == Target():
            continue
        usual = f"{amount(measured.theirs.median, figures.shown)} ({figures.baseline})" if measured.theirs else DASH
        cells = (
            figures.title,
            usual,
            amount(measured.ours.median, figures.shown),
            ratio_words(figures.ratio),
            target_words(figures),
            {True: "yes", False: "not yet", None: DASH}[figures.reached],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine_words(results: Results) -> str:
    """The machine, the library versions, and how alike both sides' pictures are in which precisions."""
    machine = results.machine
    device = f", {machine.device_memory_gib:g} GiB of its own" if machine.device_memory_gib else ""
    libraries = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "safetensors")
    words = f"{machine.name}{device}; {machine.cores} cores, {machine.memory_gib:g} GiB; {libraries}."
    alike = [row.measured.likeness for row in results.rows.values() if row.measured.likeness]
    if not alike:
        return words
    least = min(alike, key=lambda likeness: likeness.psnr_db)
    return f"{words} Both sides' pictures are alike by {least.psnr_db:g} dB or more ({least.precisions})."


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
