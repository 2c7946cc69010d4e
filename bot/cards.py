"""What a job looks like in chat, from waiting to its pictures: pure, data in and layout components out.

A new view is built for every edit: a view that is edited or stopped takes its dynamic buttons out of the registry that
makes them work after a restart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from discord import ui

from bot.buttons import Cancel, Delete, Edit, Reroll, SameSeed
from bot.store import Job, StoredPicture
from inference.contract import Phase, Progress, Retrying, Running, Waiting
from inference.entries import ModelEntry
from inference.errors import describe

PROMPT_CHARACTERS = 300
"""Of a prompt on a card; the whole of it is in the picture's description."""
ALT_TEXT_CHARACTERS = 1024
"""Discord's limit for the description of a media item."""

TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text around them, the rest of the card included."""

GREY, BLUE, GREEN, RED = 0x80848E, 0x5865F2, 0x3BA55D, 0xD83C3E


def accepted_card(job: Job) -> ui.LayoutView:
    """The job in its first moment, before anything is known of the queue."""
    return _card(GREY, [_title(job), "⏳ In line"], buttons=[Cancel(job.id)])


def progress_card(job: Job, event: Waiting | Running | Retrying, *, note: str | None = None) -> ui.LayoutView:
    """The job before its end. ``note`` stays under the state, for instance after a worker died."""
    lines = [_title(job), _state(event)]
    if note:
        lines.append(f"-# {note}")
    return _card(BLUE if isinstance(event, Running) else GREY, lines, buttons=[Cancel(job.id)])


def finished_card(
    job: Job,
    pictures: Sequence[StoredPicture],
    media: Sequence[str],
    entry: ModelEntry | None,
    *,
    identical: bool | None = None,
) -> ui.LayoutView:
    """The pictures. ``media`` are their URLs (``attachment://…``), in the same order.

    ``identical`` says of an order for the same pictures whether it gave them; None where nothing can be compared.
    """
    gallery = ui.MediaGallery[ui.LayoutView]()
    for picture, url in zip(pictures, media, strict=True):
        gallery.add_item(media=url, description=alt_text(job, picture))
    lines = [_title(job), *_comparison(identical)]
    buttons = [Reroll(job.id), SameSeed(job.id), Edit(job.id), Delete(job.id)]
    return _card(GREEN, lines, gallery=gallery, footer=_recipe(job, pictures, entry), buttons=buttons)


def failed_card(job: Job) -> ui.LayoutView:
    """No pictures, and why."""
    return _card(RED, [_title(job), f"⚠️ {job.failure}"], buttons=[Reroll(job.id), Edit(job.id), Delete(job.id)])


def cancelled_card(job: Job) -> ui.LayoutView:
    """Taken back."""
    return _card(GREY, [_title(job), "Cancelled."], buttons=[Edit(job.id), Delete(job.id)])


def retry_note(event: Waiting | Running | Retrying) -> str | None:
    """What a card says of a worker's death until the job has ended."""
    return "The drawing process ended unexpectedly; this is the second try." if isinstance(event, Retrying) else None


def alt_text(job: Job, picture: StoredPicture) -> str:
    """What a screen reader says of a picture."""
    return f"{job.request.prompt} (seed {picture.seed})"[:ALT_TEXT_CHARACTERS]


def inert(prompt: str, limit: int = PROMPT_CHARACTERS) -> str:
    """A prompt that Discord shows as it was typed: nothing in it formats, links, mentions or hides anything."""
    text = " ".join(TURNING.sub("", prompt).split())
    if len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    text = re.sub(r"([\\`*_~|>#\[\]()<:\-+.])", r"\\\1", text)
    return text.replace("@", "@\u200b")


def duration(seconds: float) -> str:
    """As short as it is still useful."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _card(
    colour: int,
    lines: Sequence[str],
    *,
    buttons: Sequence[ui.DynamicItem[ui.Button[ui.LayoutView]]],
    gallery: ui.MediaGallery[ui.LayoutView] | None = None,
    footer: str | None = None,
) -> ui.LayoutView:
    container = ui.Container[ui.LayoutView](accent_colour=colour)
    container.add_item(ui.TextDisplay("\n".join(lines)))
    if gallery is not None:
        container.add_item(gallery)
    if footer is not None:
        container.add_item(ui.TextDisplay(footer))
    container.add_item(ui.ActionRow(*buttons))
    view = ui.LayoutView(timeout=None)
    view.add_item(container)
    return view


def _title(job: Job) -> str:
    return f"**{inert(job.request.prompt)}**\n-# for <@{job.user_id}>"


def _state(event: Waiting | Running | Retrying) -> str:
    match event:
        case Waiting(position=1, eta_s=eta_s):
            return f"⏳ Next in line{_eta(eta_s)}"
        case Waiting(position=position, eta_s=eta_s):
            return f"⏳ Number {position} in line{_eta(eta_s)}"
        case Running(progress=progress):
            return _progress(progress)
        case Retrying(failure=failure):
            return f"🔁 {describe(failure)} Trying once more."


def _eta(eta_s: float | None) -> str:
    return "" if eta_s is None else f" · about {duration(eta_s)}"


def _progress(progress: Progress) -> str:
    match progress.phase:
        case Phase.LOADING:
            return "📦 Loading the model…"
        case Phase.DRAWING:
            bar = "▰" * progress.step + "▱" * (progress.steps - progress.step) if progress.steps <= 20 else ""
            return f"🎨 Drawing {bar} step {progress.step} of {progress.steps}"
        case Phase.DECODING | Phase.SAVING:
            return "🖼️ Finishing…"


def _comparison(identical: bool | None) -> list[str]:
    if identical is None:
        return []
    if identical:
        return ["-# 🔒 Same seed: identical, pixel for pixel."]
    return ["-# 🔓 Same seed, yet not pixel for pixel the same: the model or the machine has changed since."]


def _recipe(job: Job, pictures: Sequence[StoredPicture], entry: ModelEntry | None) -> str:
    request = job.request
    seeds = ", ".join(f"`{picture.seed}`" for picture in pictures)
    facts = [
        inert(entry.title if entry else request.model),
        f"seed {seeds}" if len(pictures) == 1 else f"seeds {seeds}",
        f"{request.steps} steps" if request.steps != 1 else "1 step",
        f"guidance {request.guidance:g}",
        f"{request.width}×{request.height}",
        *([duration(job.seconds)] if job.seconds is not None else []),
    ]
    return "-# " + " · ".join(facts)
