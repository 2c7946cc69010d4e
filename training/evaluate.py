"""Measures the shipped forms: do they draw what is asked for, how near the teacher, in which colours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training import forms, sheets
from training.captions import COLOUR_WORD, Variant, article
from training.colour import BACKGROUNDS, HUES, apart, border_colour, nearest_background, object_hue
from training.forms import TEACHER_STEPS, Form
from training.latents import Latents, picture_of
from training.pictures import Pictures, load
from training.work import Work

STEPS = (1, 2, 4, 8)
SUBSET = 96
"""Prompts that the teacher, a hundred network calls a picture, draws too: evenly spread over the vocabulary."""
COMBINATIONS = 64
"""Held-out colours, and held-out backgrounds, that are asked for."""
HUE_TOLERANCE = 40.0
"""Degrees by which a thing's hue may miss the colour asked for."""
SHEET = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``retrieval``: share of prompts whose own picture is the nearest of the vocabulary's. ``distance``: root mean
    square difference to the teacher's pictures from the same noise, pixels in 0..1."""

    form: str
    steps: int
    prompts: int
    retrieval: float
    distance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Shares of held-out combinations that came out in the colour, on the background, that was asked for."""

    form: str
    steps: int
    colours: float
    backgrounds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    vocabulary: int
    rows: tuple[Row, ...]
    colours: tuple[Colours, ...]

    @property
    def margin(self) -> float:
        """How much nearer to the teacher the farther of the distilled forms is at 4 steps than the undistilled base:
        1 - ratio of their distances."""
        at_four = {row.form: row.distance for row in self.rows if row.steps == 4 and row.distance is not None}
        return 1 - max(at_four["native"], at_four["lora"]) / at_four["undistilled"]

    def table(self) -> str:
        lines = [f"{self.vocabulary} emoji", "", "| form | steps | prompts | retrieval | distance to teacher |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| {row.form} | {row.steps} | {row.prompts} | {row.retrieval:.3f} | {_figure(row.distance)} |"
            for row in self.rows
        ]
        lines += ["", "| form | steps | held-out colours | held-out backgrounds |", "|---|---|---|---|"]
        lines += [f"| {row.form} | {row.steps} | {row.colours:.3f} | {row.backgrounds:.3f} |" for row in self.colours]
        return "\n".join([*lines, "", f"nearer to the teacher than undistilled, 4 steps: {self.margin:.0%}"])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What can be asked for: ``names``, and the plain training pictures (N, 3, H, W) in 0..1."""

    names: tuple[str, ...]
    plain: Tensor

    @classmethod
    def of(cls, pictures: Pictures, latents: Latents) -> Vocabulary:
        plain = [picture_of(pictures, index, Variant(entry)) for entry, index in enumerate(latents.vocabulary)]
        return cls(tuple(pictures.rows[index].label for index in latents.vocabulary), torch.stack(plain))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def run(work: Work, models: Path) -> Report:
    """Evaluate, print the table, write ``evaluation.json`` beside the base model and the sheets in the work folder."""
    vocabulary = Vocabulary.of(load(work.pictures), Latents.read(work))
    report = evaluate(vocabulary, models, lambda name, drawn: _sheet(work, vocabulary, name, drawn))
    print(report.table())
    found = asdict(report) | {"margin": report.margin}
    (models / "emoji" / "evaluation.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return report


def evaluate(vocabulary: Vocabulary, models: Path, on_drawn: Callable[[str, Tensor], None]) -> Report:
    """Draw with every form; ``on_drawn`` gets a name and pictures of the whole vocabulary."""
    count = len(vocabulary.names)
    subset = torch.linspace(0, count - 1, min(SUBSET, count)).long()
    names = [vocabulary.names[i] for i in subset.tolist()]
    reference = forms.teacher(models).draw(names, TEACHER_STEPS)
    rows = [_row("teacher", TEACHER_STEPS, vocabulary, reference, subset, reference)]
    base = forms.undistilled(models)
    rows += [_row(base.name, n, vocabulary, base.draw(names, n), subset, reference) for n in STEPS]
    colours = []
    for form in (forms.native(models), forms.lora(models)):
        for steps in STEPS:
            near = form.draw(names, steps)
            rows.append(_row(form.name, steps, vocabulary, near, subset, reference))
        whole = form.draw(vocabulary.names, 4)
        on_drawn(form.name, whole)
        everything = torch.arange(count)
        rows.append(
            Row(form=form.name + ", all", steps=4, prompts=count, retrieval=retrieval(vocabulary, whole, everything),
                distance=None)
        )  # fmt: skip
        colours.append(_colours(form, vocabulary))
    return Report(vocabulary=count, rows=tuple(rows), colours=tuple(colours))


def retrieval(vocabulary: Vocabulary, drawn: Tensor, right: Tensor) -> float:
    """Share of ``drawn`` (N, 3, H, W) whose nearest plain picture, at a quarter of the size, is number ``right``."""
    small, known = (F.avg_pool2d(pictures, 4).flatten(1) for pictures in (drawn.float(), vocabulary.plain))
    return (torch.cdist(small, known).argmin(1) == right).float().mean().item()


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of pictures in 0..1, averaged over pictures."""
    return (a - b).square().flatten(1).mean(1).sqrt().mean().item()


def _row(name: str, steps: int, vocabulary: Vocabulary, drawn: Tensor, right: Tensor, reference: Tensor) -> Row:
    return Row(
        form=name,
        steps=steps,
        prompts=len(drawn),
        retrieval=retrieval(vocabulary, drawn, right),
        distance=distance(drawn, reference),
    )


def held_out(count: int, names: Sequence[str], wanted: int = COMBINATIONS) -> list[tuple[int, str]]:
    """``wanted`` pairs of an entry and one of ``names`` that training never showed, spread over the vocabulary."""
    pairs = [(entry, name) for entry in range(count) for name in names if Variant(entry, name).held_out()]
    return pairs[:: max(1, len(pairs) // wanted)][:wanted]


def _colours(form: Form, vocabulary: Vocabulary, steps: int = 4) -> Colours:
    count = len(vocabulary.names)
    coloured = held_out(count, tuple(HUES))
    bare = [COLOUR_WORD.sub("", vocabulary.names[entry]).strip() or vocabulary.names[entry] for entry, _ in coloured]
    drawn = form.draw([f"{name} {label}" for (_, name), label in zip(coloured, bare, strict=True)], steps)
    asked = torch.tensor([HUES[name] for _, name in coloured])
    grounds = held_out(count, [name for name in BACKGROUNDS if name != "white"])
    placed = form.draw([f"{vocabulary.names[i]} on {article(name)} background" for i, name in grounds], steps)
    seen = nearest_background(border_colour(placed.float()))
    return Colours(
        form=form.name,
        steps=steps,
        colours=(apart(object_hue(drawn.float()), asked) <= HUE_TOLERANCE).float().mean().item(),
        backgrounds=sum(name == asked for name, (_, asked) in zip(seen, grounds, strict=True)) / len(grounds),
    )


def _sheet(work: Work, vocabulary: Vocabulary, name: str, drawn: Tensor) -> None:
    """Drawn pictures, and below each row of sixteen the training pictures."""
    chosen = torch.linspace(0, len(drawn) - 1, min(SHEET, len(drawn))).long()
    pairs = [pictures[part] for part in torch.split(chosen, 16) for pictures in (drawn.float(), vocabulary.plain)]
    sheets.save(sheets.pixels(torch.cat(pairs)), work.sheet(name), columns=16)
