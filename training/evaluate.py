"""Measures the shipped forms: whether they draw what is asked for, how near to the teacher, and in which colours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training import forms, sheets
from training.captions import COLOUR_WORD, Variant, article
from training.colour import BACKGROUNDS, HUES, apart, border_colour, nearest_background, object_hue
from training.forms import TEACHER_STEPS, Form
from training.latents import picture_of
from training.pictures import Pictures, load
from training.shipping import VOCABULARY
from training.work import Work

STEPS = (1, 2, 4, 8)
NAMES, COMBINED, ALL = "names", "combinations", "all names"
"""What is asked for: things by name; a thing in a colour held out from training, on a background other than white."""
SUBSET = 96
"""Prompts that the teacher draws too, at a hundred network calls per picture: evenly spread over the vocabulary."""
COMBINATIONS = 64
"""Prompts with held-out colours, as many with held-out backgrounds, and with combinations of both."""
HUE_TOLERANCE = 40.0
"""Degrees by which a thing's hue may differ from the colour asked for."""
SHEET = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One form at one number of steps; ``asked`` is what was asked for.

    ``retrieval``: share of prompts whose own picture is the nearest in the vocabulary. ``distance``: root mean square
    difference from the teacher's pictures from the same noise, pixels in 0..1. ``nearer``: share of pictures that are
    nearer to the teacher's than what the undistilled base draws in as many steps. None if it was not measured.
    """

    form: str
    steps: int
    asked: str
    prompts: int
    retrieval: float | None = None
    distance: float | None = None
    nearer: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Shares of held-out combinations drawn in the colour, and on the background, that was asked for."""

    form: str
    steps: int
    colours: float
    backgrounds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    vocabulary: int
    rows: tuple[Row, ...]
    colours: tuple[Colours, ...]

    def margin(self, asked: str) -> float:
        """By how much the farther of the distilled forms at 4 steps is nearer to the teacher than the undistilled base:
        1 - ratio of their distances."""
        at_four = {row.form: row.distance for row in self.rows if (row.steps, row.asked) == (4, asked) and row.distance}
        return 1 - max(at_four["native"], at_four["lora"]) / at_four["undistilled"]

    def table(self) -> str:
        lines = [f"{self.vocabulary} emoji", ""]
        lines += [
            "| form | steps | asked for | prompts | retrieval | distance | nearer |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.form} | {row.steps} | {row.asked} | {row.prompts} | "
            f"{_figure(row.retrieval)} | {_figure(row.distance)} | {_figure(row.nearer)} |"
            for row in self.rows
        ]
        lines += ["", "| form | steps | held-out colours | held-out backgrounds |", "|---|---|---|---|"]
        lines += [f"| {row.form} | {row.steps} | {row.colours:.3f} | {row.backgrounds:.3f} |" for row in self.colours]
        lines.append("")
        lines += [
            f"nearer to the teacher than undistilled, {asked}: {self.margin(asked):.0%}" for asked in (NAMES, COMBINED)
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What can be asked for: ``names``, and the plain training pictures (N, 3, H, W) in 0..1."""

    names: tuple[str, ...]
    plain: Tensor

    @classmethod
    def read(cls, models: Path, pictures: Pictures) -> Vocabulary:
        """That of the model under ``models``."""
        names = json.loads((models / "emoji" / VOCABULARY).read_text(encoding="utf-8"))
        places = {row.label: place for place, row in enumerate(pictures.rows) if row.style == "3d"}
        plain = [picture_of(pictures, places[name], Variant(entry)) for entry, name in enumerate(names)]
        return cls(tuple(names), torch.stack(plain))

    def coloured(self) -> list[tuple[str, str]]:
        """Prompts for things in colours held out from training, with the colours.

        Leaves out what would come out right by itself: things of nearly that colour, and things that exist in several
        versions differing only in colour, such as hearts.
        """
        bare = Counter(map(self._bare, range(len(self.names))))
        hues = object_hue(self.plain)
        pairs = [
            (entry, colour)
            for entry, colour in self._held_out(HUES)
            if bare[self._bare(entry)] == 1 and apart(hues[entry], torch.tensor(HUES[colour])) > 2 * HUE_TOLERANCE
        ]
        return [(f"{colour} {self._bare(entry)}", colour) for entry, colour in _spread(pairs)]

    def placed(self) -> list[tuple[str, str]]:
        """Prompts for things on backgrounds held out from training, with the backgrounds."""
        grounds = [name for name in BACKGROUNDS if name != "white"]
        return [(f"{self.names[entry]} {_on(ground)}", ground) for entry, ground in _spread(self._held_out(grounds))]

    def combined(self) -> list[str]:
        """Prompts for a thing in such a colour and on a background: combinations that training never showed."""
        pairs = zip(self.coloured(), self.placed(), strict=False)
        return [f"{prompt} {_on(ground)}" for (prompt, _), (_, ground) in pairs]

    def _bare(self, entry: int) -> str:
        return COLOUR_WORD.sub("", self.names[entry]).strip() or self.names[entry]

    def _held_out(self, words: Collection[str]) -> list[tuple[int, str]]:
        """Pairs of an entry and one of ``words`` that training never showed."""
        entries = range(len(self.names))
        return [(entry, word) for entry in entries for word in words if Variant(entry, word).held_out()]


def _spread(pairs: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """``COMBINATIONS`` of them, spread over the vocabulary."""
    return pairs[:: max(1, len(pairs) // COMBINATIONS)][:COMBINATIONS]


def _on(ground: str) -> str:
    return f"on {article(ground)} background"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def run(work: Work, models: Path) -> Report:
    """Evaluate, print the table, write ``evaluation.json`` beside the base model and the sheets in the work folder."""
    vocabulary = Vocabulary.read(models, load(work.pictures))
    report = evaluate(vocabulary, models, lambda name, drawn: _sheet(work, vocabulary, name, drawn))
    print(report.table())
    found = asdict(report) | {"margin": {asked: report.margin(asked) for asked in (NAMES, COMBINED)}}
    (models / "emoji" / "evaluation.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return report


def evaluate(vocabulary: Vocabulary, models: Path, on_drawn: Callable[[str, Tensor], None]) -> Report:
    """Draw with every form; ``on_drawn`` gets a form's name and its pictures of the whole vocabulary."""
    everything = torch.arange(len(vocabulary.names))
    some = torch.linspace(0, len(everything) - 1, min(SUBSET, len(everything))).long()
    names = [vocabulary.names[i] for i in some.tolist()]
    distilled = (forms.native(models), forms.lora(models))
    rows: list[Row] = []
    for asked, prompts, right in ((NAMES, names, some), (COMBINED, vocabulary.combined(), None)):
        reference = forms.teacher(models).draw(prompts, TEACHER_STEPS)
        rows.append(_row("teacher", TEACHER_STEPS, asked, reference, reference, vocabulary, right))
        for steps in STEPS:
            base = forms.undistilled(models).draw(prompts, steps)
            rows.append(_row("undistilled", steps, asked, base, reference, vocabulary, right))
            for form in distilled:
                drawn = form.draw(prompts, steps)
                row = _row(form.name, steps, asked, drawn, reference, vocabulary, right)
                rows.append(replace(row, nearer=nearer(drawn, base, reference)))
    for form in distilled:
        whole = form.draw(vocabulary.names, 4)
        on_drawn(form.name, whole)
        found = retrieval(vocabulary, whole, everything)
        rows.append(Row(form=form.name, steps=4, asked=ALL, prompts=len(whole), retrieval=found))
    colours = tuple(_colours(form, vocabulary) for form in distilled)
    return Report(vocabulary=len(everything), rows=tuple(rows), colours=colours)


def retrieval(vocabulary: Vocabulary, drawn: Tensor, right: Tensor) -> float:
    """Share of ``drawn`` (N, 3, H, W) whose nearest plain picture, at a quarter of the size, is that in ``right``."""
    small, known = (F.avg_pool2d(pictures, 4).flatten(1) for pictures in (drawn.float(), vocabulary.plain))
    return (torch.cdist(small, known).argmin(1) == right).float().mean().item()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference of each picture (N,), pixels in 0..1."""
    return (a - b).square().flatten(1).mean(1).sqrt()


def nearer(drawn: Tensor, base: Tensor, reference: Tensor) -> float:
    """Share of ``drawn`` that are nearer to ``reference`` than ``base`` is."""
    return (distances(drawn, reference) < distances(base, reference)).float().mean().item()


def _row(
    form: str, steps: int, asked: str, drawn: Tensor, reference: Tensor, vocabulary: Vocabulary, right: Tensor | None
) -> Row:
    return Row(
        form=form,
        steps=steps,
        asked=asked,
        prompts=len(drawn),
        retrieval=None if right is None else retrieval(vocabulary, drawn, right),
        distance=distances(drawn, reference).mean().item(),
    )


def _colours(form: Form, vocabulary: Vocabulary, steps: int = 4) -> Colours:
    coloured, placed = vocabulary.coloured(), vocabulary.placed()
    hues = object_hue(form.draw([prompt for prompt, _ in coloured], steps).float())
    asked = torch.tensor([HUES[colour] for _, colour in coloured])
    seen = nearest_background(border_colour(form.draw([prompt for prompt, _ in placed], steps).float()))
    return Colours(
        form=form.name,
        steps=steps,
        colours=(apart(hues, asked) <= HUE_TOLERANCE).float().mean().item(),
        backgrounds=sum(name == asked for name, (_, asked) in zip(seen, placed, strict=True)) / len(placed),
    )


def _sheet(work: Work, vocabulary: Vocabulary, name: str, drawn: Tensor) -> None:
    """Drawn pictures, and below each row of sixteen the training pictures."""
    chosen = torch.linspace(0, len(drawn) - 1, min(SHEET, len(drawn))).long()
    pairs = [pictures[part] for part in torch.split(chosen, 16) for pictures in (drawn.float(), vocabulary.plain)]
    sheets.save(sheets.pixels(torch.cat(pairs)), work.sheet(f"evaluation-{name}"), columns=16)
