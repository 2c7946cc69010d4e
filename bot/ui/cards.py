"""What a job looks like in chat, from queued to finished. Pure: data in, layout components out.

Every edit gets a newly built view: editing or stopping a view removes its dynamic items from the registry that keeps
them working after a restart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from discord import ui

from bot.ordering.access import Showing
from bot.store import Job, StoredPicture
from bot.ui.buttons import Cancel, Delete, Edit, OneOf, OtherModel, Reroll, SameSeed
from bot.ui.quoting import TURNING
from bot.words import _, steps_of, told
from inference.amounts import readable
from inference.catalog.entries import Kind, ModelEntry
from inference.contract import (
    Downloading,
    ImageRequest,
    Phase,
    Progress,
    Retrying,
    Running,
    Standing,
    Unread,
    Variation,
    Waiting,
)
from inference.errors import shortened

PROMPT_CHARACTERS = 300
"""Maximum length of a prompt on a card; the picture's alt text has as much of it as Discord allows."""
TITLE_CHARACTERS = 40
"""Maximum length of a model's title in a status line."""
UNREAD_CHARACTERS = 100
"""Maximum length of the unread part of a prompt."""
FAILURE_CHARACTERS = 1000
"""Maximum length of a failure message; a card has 4000 characters in all."""
ALT_TEXT_CHARACTERS = 1024
"""Discord's limit for the description of a media item."""

Row: TypeAlias = Sequence[ui.DynamicItem[Any]]
"""Buttons, or one menu, side by side."""

GREY, BLUE, GREEN, RED = 0x80848E, 0x5865F2, 0x3BA55D, 0xD83C3E


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What a finished job shows. ``media`` are the pictures' URLs (``attachment://…``), in the same order; ``covered``
    hides them behind a spoiler; ``words`` is how the rules that apply there show the prompt; ``others`` are models that
    could draw the same.

    ``identical``: whether an order for the same pictures reproduced them; None where there is nothing to compare.
    """

    pictures: tuple[StoredPicture, ...]
    media: tuple[str, ...]
    entry: ModelEntry | None
    identical: bool | None = None
    covered: bool = False
    words: Showing = Showing.PLAIN
    others: tuple[ModelEntry, ...] = ()


def accepted_card(job: Job) -> ui.LayoutView:
    """The job right after it was accepted, before its position in the queue is known."""
    return layout(GREY, [title_of(job), "⏳ " + _("Waiting")], rows=[[Cancel(job.id)]])


def progress_card(job: Job, event: Standing, *, note: str | None = None, previews: Sequence[str] = ()) -> ui.LayoutView:
    """The unfinished job. ``note`` stays below the state, for instance after a worker died; ``previews`` are the URLs
    of what its pictures look like so far."""
    lines = [title_of(job), state_line(event)]
    if note:
        lines.append(f"-# {note}")
    gallery = ui.MediaGallery[ui.LayoutView]()
    for url in previews:
        gallery.add_item(media=url, description=_("What the picture looks like so far"))
    colour = BLUE if isinstance(event, Running) else GREY
    return layout(colour, lines, gallery=gallery if previews else None, rows=[[Cancel(job.id)]])


def finished_card(job: Job, finish: Finish) -> ui.LayoutView:
    """The pictures, how they were made, and what can be done with them."""
    gallery = ui.MediaGallery[ui.LayoutView]()
    for picture, url in zip(finish.pictures, finish.media, strict=True):
        gallery.add_item(media=url, description=alt_text(job, picture), spoiler=finish.covered)
    lines = [title_of(job, finish.words), *_comparison(finish.identical), *_without_effect(job, finish.entry)]
    lines += unread_lines(finish.pictures[0].unread, finish.words)  # all share one prompt
    buttons: Row = [Reroll(job.id), SameSeed(job.id), Edit(job.id), Delete(job.id)]
    rows: list[Row] = [buttons, [OneOf(job.id, finish.pictures)]]
    if finish.others:
        rows.append([OtherModel(job.id, finish.others)])
    return layout(GREEN, lines, gallery=gallery, footer=recipe_line(job, finish.entry), rows=rows)


def withheld_card(job: Job) -> ui.LayoutView:
    """Drawn, but not to be shown here."""
    return layout(GREY, [title_of(job, Showing.WITHHELD), why_withheld()], rows=[[Edit(job.id), Delete(job.id)]])


def why_withheld() -> str:
    """Shown in place of a picture."""
    return "🚫 " + _("Outside age-restricted channels, this server does not show pictures that may be explicit.")


def failed_card(job: Job, *, words: Showing = Showing.PLAIN) -> ui.LayoutView:
    """No pictures, and the reason."""
    buttons: Row = [Reroll(job.id), Edit(job.id), Delete(job.id)]
    failure = shortened(job.failure or "", FAILURE_CHARACTERS)
    return layout(RED, [title_of(job, words), f"⚠️ {failure}"], rows=[buttons])


def not_taken() -> str:
    """Replaces pictures that Discord refuses: for their content, say, or because the bot may not attach files."""
    return _("Discord does not accept the pictures here. You will find them in `/history`.")


def cancelled_card(job: Job) -> ui.LayoutView:
    """A cancelled job."""
    return layout(GREY, [title_of(job), _("Cancelled.")], rows=[[Edit(job.id), Delete(job.id)]])


def retry_note(event: Standing) -> str | None:
    """What a card says about a worker's death until the job has ended."""
    again = _("The drawing process ended unexpectedly; this is the second try.")
    return again if isinstance(event, Retrying) else None


def alt_text(job: Job, picture: StoredPicture) -> str:
    """What a screen reader says about a picture."""
    seed = _(" (seed {seed})", seed=picture.seed)
    if picture.variation_seed is not None:
        seed = _(" (seed {seed}, variation {variation})", seed=picture.seed, variation=picture.variation_seed)
    return job.request.prompt[: ALT_TEXT_CHARACTERS - len(seed)] + seed


def inert(prompt: str, limit: int = PROMPT_CHARACTERS) -> str:
    """A prompt escaped so that Discord shows it as typed: nothing in it formats, links, mentions or hides anything."""
    text = shortened(" ".join(TURNING.sub("", prompt).split()), limit)
    text = re.sub(r"([\\`*_~|>#\[\]()<:\-+.])", r"\\\1", text)
    return text.replace("@", "@\u200b")


def fitting(lines: Sequence[str], characters: int) -> list[str]:
    """The first lines, as many as fit."""
    ends = accumulate(len(line) + 1 for line in lines)
    return [line for line, end in zip(lines, ends, strict=True) if end <= characters]


def duration(seconds: float) -> str:
    """A duration, as short as is still useful."""
    if seconds < 10:
        return _("{seconds} s", seconds=f"{seconds:.1f}")
    if seconds < 90:
        return _("{seconds} s", seconds=f"{seconds:.0f}")
    return _("{minutes} min", minutes=f"{seconds / 60:.0f}")


def layout(
    colour: int,
    lines: Sequence[str],
    *,
    rows: Sequence[Row],
    gallery: ui.MediaGallery[ui.LayoutView] | None = None,
    footer: str | None = None,
) -> ui.LayoutView:
    container = ui.Container[ui.LayoutView](accent_colour=colour)
    container.add_item(ui.TextDisplay("\n".join(lines)))
    if gallery is not None:
        container.add_item(gallery)
    if footer is not None:
        container.add_item(ui.TextDisplay(footer))
    for row in rows:
        container.add_item(ui.ActionRow(*row))
    view = ui.LayoutView(timeout=None)
    view.add_item(container)
    return view


def title_of(job: Job, words: Showing = Showing.PLAIN, *, prompt: str | None = None) -> str:
    """The prompt, or ``prompt`` if it stands for several, and who ordered it. The bot is the author of what it shows:
    what a server covers or withholds as a picture, it covers or withholds as text too."""
    lines = []
    if words is not Showing.WITHHELD:
        lines.append(worded(f"**{inert(prompt or job.request.prompt)}**", words))
    if job.request.negative and words is not Showing.WITHHELD:
        lines.append("-# " + _("without {negative}", negative=worded(inert(job.request.negative), words)))
    lines.append("-# " + _("for {person}", person=f"<@{job.user_id}>"))
    return "\n".join(lines)


def state_line(event: Standing) -> str:
    """Where an order stands, in a few words."""
    match event:
        case Waiting(position=1, eta_s=eta_s):
            return "⏳ " + _("Next in line") + _eta(eta_s)
        case Waiting(position=position, eta_s=eta_s):
            return "⏳ " + _("Number {position} in line", position=position) + _eta(eta_s)
        case Downloading():
            return "☁️ " + _download(event)
        case Running(progress=progress):
            return _progress(progress)
        case Retrying(failure=failure):
            return f"🔁 {told(failure)} " + _("Trying once more.")


def _eta(eta_s: float | None) -> str:
    return "" if eta_s is None else " · " + _("about {duration}", duration=duration(eta_s))


def _download(event: Downloading) -> str:
    title = inert(event.model, TITLE_CHARACTERS)
    if not event.total_bytes:
        return _("Downloading **{model}**…", model=title)
    percent = 100 * event.done_bytes // event.total_bytes
    size = readable(event.total_bytes)
    return _("Downloading **{model}**: {percent} % of {size}", model=title, percent=percent, size=size)


def _progress(progress: Progress) -> str:
    match progress.phase:
        case Phase.LOADING:
            return "📦 " + _("Loading the model…")
        case Phase.DRAWING:
            bar = "▰" * progress.step + "▱" * (progress.steps - progress.step) if progress.steps <= 20 else ""
            return "🎨 " + _("Drawing {bar} step {step} of {steps}", bar=bar, step=progress.step, steps=progress.steps)
        case Phase.DECODING | Phase.SAVING:
            return "🖼️ " + _("Finishing…")


def _comparison(identical: bool | None) -> list[str]:
    if identical is None:
        return []
    if identical:
        return ["-# 🔒 " + _("Same seed: identical, pixel for pixel.")]
    changed = _("Same seed, but not identical pixel for pixel: the model, the machine or the bot has changed since.")
    return [f"-# 🔓 {changed}"]


def _without_effect(job: Job, entry: ModelEntry | None) -> list[str]:
    """What was asked for but had no effect."""
    if not job.request.negative or entry is None or entry.negative_acts(job.request.guidance):
        return []
    if entry.kind is Kind.NATIVE:
        return ["-# ℹ️ " + _("This kind of model ignores negative prompts.")]
    return ["-# ℹ️ " + _("The negative prompt had no effect: it only works with guidance above 1.")]


def worded(text: str, words: Showing) -> str:
    """``text``, or a spoiler around it. The space keeps an escaped bar at its end apart from the closing bars."""
    return f"||{text} ||" if words is Showing.COVERED else text


def unread_lines(unread: Unread, words: Showing = Showing.PLAIN) -> list[str]:
    """Which parts of the prompts had no effect, because the model reads only so many words."""
    if words is Showing.WITHHELD:
        return []
    lines = []
    if unread.prompt:
        end = worded(inert(unread.prompt, UNREAD_CHARACTERS), words)
        lines.append("-# ✂️ " + _("The model did not read the end of the prompt: “{end}”", end=end))
    if unread.negative:
        end = worded(inert(unread.negative, UNREAD_CHARACTERS), words)
        lines.append("-# ✂️ " + _("The model did not read the end of the negative prompt: “{end}”", end=end))
    return lines


def recipe_line(job: Job, entry: ModelEntry | None) -> str:
    """Model, seeds and settings in small print."""
    title = entry.title if entry else job.request.model
    facts = facts_of(job.request, title)
    if job.seed_locked:
        facts.append("🔒 " + _("seed locked"))
    if job.seconds is not None:
        facts.append(duration(job.seconds))
    return "-# " + " · ".join(facts)


def facts_of(request: ImageRequest, title: str) -> list[str]:
    """What makes a picture, apart from its prompt."""
    shown = ", ".join(f"`{seed}`" for seed in request.seeds)
    variations = [v for index in range(request.count) if (v := request.picture_variation(index)) is not None]
    return [
        inert(title),
        *(f"LoRA {inert(adapter.name)} {adapter.strength:g}" for adapter in request.adapters),
        _("seed {seed}", seed=shown) if len(request.seeds) == 1 else _("seeds {seeds}", seeds=shown),
        *([variation_of(variations)] if variations else []),
        steps_of(request.steps),
        _("guidance {guidance}", guidance=f"{request.guidance:g}"),
        f"{request.width}×{request.height}",
    ]


def variation_of(variations: Sequence[Variation]) -> str:
    """The seeds of one order's variations, and their strength."""
    seeds, strength = ", ".join(f"`{variation.seed}`" for variation in variations), f"{variations[0].strength:g}"
    if len(variations) == 1:
        return _("variation {seed}, strength {strength}", seed=seeds, strength=strength)
    return _("variations {seeds}, strength {strength}", seeds=seeds, strength=strength)
