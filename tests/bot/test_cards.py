"""What a job looks like in chat: everything a person asks about is on the card, and a prompt can do no harm there."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import discord
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ordering.access import Showing
from bot.ordering.comparing import parted
from bot.ordering.flags import Options
from bot.store import Job, JobState, Origin, StoredPicture
from bot.ui import cards
from bot.ui.comparison_card import Compared, comparison_card
from bot.ui.modals import remix_modal
from inference.catalog import Catalog
from inference.contract import Phase, Progress, Retrying, Running, Unread, Variation, Waiting
from inference.errors import WorkerDied
from tests.bot.conftest import a_job
from tests.discord_api.schema import discord_schema


def pictures_of(job: Job) -> list[StoredPicture]:
    return [
        StoredPicture(
            id=f"{index:036}",
            job_id=job.id,
            index=index,
            seed=job.request.picture_seed(index),
            width=64,
            height=64,
            bucket=1,
            guided_bucket=0,
            pixels_sha256="0" * 64,
            bytes=100,
            variation_seed=variation.seed if (variation := job.request.picture_variation(index)) else None,
        )
        for index in range(job.request.count)
    ]


def finished(job: Job, catalog: Catalog, *, identical: bool | None = None) -> discord.ui.LayoutView:
    pictures = pictures_of(job)
    media = [f"attachment://{picture.id}.png" for picture in pictures]
    entry = catalog[job.request.model]
    finish = cards.Finish(pictures=tuple(pictures), media=tuple(media), entry=entry, identical=identical)
    return cards.finished_card(job, finish)


def text_of(view: discord.ui.LayoutView) -> str:
    return "\n".join(item.content for item in view.walk_children() if isinstance(item, discord.ui.TextDisplay))


def labels_of(view: discord.ui.LayoutView) -> list[str | None]:
    return [item["label"] for item in _walk(view.to_components()) if item.get("type") == 2]


def _walk(components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [inner for item in components for inner in (item, *_walk(item.get("components", [])))]


def test_a_waiting_card_says_where_in_line_and_how_long(catalog: Catalog) -> None:
    view = cards.progress_card(a_job(), Waiting(position=3, eta_s=4.2))
    assert "Number 3 in line · about 4.2 s" in text_of(view)
    assert labels_of(view) == ["Cancel"]


@pytest.mark.parametrize("count", [1, 9])
def test_the_longest_failures_fit_on_a_card(count: int) -> None:
    order = {"state": JobState.FAILED, "failure": "x" * 5000, "comparison_id": str(uuid.uuid4())}
    jobs = [a_job(prompt="*" * 1000, **order) for _number in range(count)]
    compared = [Compared(job=job, label="8 steps", media=None, shown=Showing.PLAIN) for job in jobs]
    view = cards.failed_card(jobs[0]) if count == 1 else comparison_card(compared)
    assert "xxx" in text_of(view)
    assert view.content_length() <= 4000


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FAILED, JobState.DONE])
def test_the_longest_words_that_are_compared_fit_on_a_card(state: JobState) -> None:
    """They part at their beginnings and ends, and all of it has to be kept from formatting anything."""
    prompts = [f"{number}{'(' * 490}{')' * 490}{number}" for number in range(9)]
    jobs = [
        a_job(prompt=prompt, state=state, failure="x" * 5000, comparison_id=str(uuid.uuid4())) for prompt in prompts
    ]
    jobs = [replace(job, request=replace(job.request, negative="*" * 1000)) for job in jobs]
    compared = [
        Compared(
            job=job,
            label=label,
            media="attachment://x.png" if state is JobState.DONE else None,
            shown=Showing.COVERED,
            unread=Unread(prompt=f"{label}*", negative=f"{label}#"),
            event=Waiting(position=100, eta_s=5000.0),
        )
        for job, label in zip(jobs, parted(prompts)[1], strict=True)
    ]
    view = comparison_card(compared, words=Showing.COVERED, note="n" * 150)
    assert view.content_length() <= 4000
    assert text_of(view).count("x" * 100) == (9 if state is JobState.FAILED else 0)


@pytest.mark.parametrize(("length", "most"), [(5, 1000), (1131, 1131)])
async def test_a_form_has_room_for_what_it_is_filled_in_with(length: int, most: int) -> None:
    fields = _walk(remix_modal(Options(prompt="x" * length), parent_id=None).to_components())
    assert next(one["component"]["max_length"] for one in fields if "component" in one) == most


def test_no_time_is_promised_before_anything_was_timed() -> None:
    assert "about" not in text_of(cards.progress_card(a_job(), Waiting(position=3, eta_s=None)))


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(phase=Phase.LOADING), "Loading the model"),
        (Progress(phase=Phase.DRAWING, step=1, steps=4), "▰▱▱▱ step 1 of 4"),
        (Progress(phase=Phase.DRAWING, step=20, steps=50), "step 20 of 50"),
        (Progress(phase=Phase.DECODING), "Finishing"),
        (Progress(phase=Phase.SAVING), "Finishing"),
    ],
)
def test_a_running_card_says_what_is_being_done(progress: Progress, words: str) -> None:
    assert words in text_of(cards.progress_card(a_job(), Running(progress=progress)))


def test_a_retry_says_what_happened_and_that_it_goes_on() -> None:
    retrying = Retrying(failure=WorkerDied(reason="signal 9"))
    text = text_of(cards.progress_card(a_job(), retrying))
    assert "ended unexpectedly (signal 9)" in text
    assert "Trying once more" in text
    running = Running(progress=Progress(phase=Phase.LOADING))
    assert "second try" in text_of(cards.progress_card(a_job(), running, note=cards.retry_note(retrying)))
    assert cards.retry_note(running) is None


def test_a_finished_card_shows_everything_that_makes_the_picture(catalog: Catalog) -> None:
    text = text_of(finished(a_job(count=2, state=JobState.DONE, seconds=1.24), catalog))
    for word in ("Quick", "`7`", "`8`", "4 steps", "guidance 8", "64×64", "1.2 s", "<@5>"):
        assert word in text


def test_every_picture_has_alt_text(catalog: Catalog) -> None:
    view = finished(a_job(prompt="x" * 1000, count=4), catalog)
    [gallery] = [item for item in view.walk_children() if isinstance(item, discord.ui.MediaGallery)]
    for seed, item in enumerate(gallery.items, start=7):
        assert item.description is not None
        assert item.description.startswith("xxx")
        assert item.description.endswith(f"(seed {seed})")
        assert len(item.description) <= 1024


@pytest.mark.parametrize(("identical", "words"), [(True, "pixel for pixel"), (False, "not identical pixel for pixel")])
def test_same_seed_is_honest_about_the_pixels(catalog: Catalog, identical: bool, words: str) -> None:
    job = a_job(origin=Origin.SAME_SEED)
    assert words in text_of(finished(job, catalog, identical=identical))


def test_a_menu_goes_on_with_each_of_several_pictures(catalog: Catalog) -> None:
    [menu] = [item for item in _walk(finished(a_job(count=2), catalog).to_components()) if item.get("type") == 3]
    assert [(choice["value"], choice["description"]) for choice in menu["options"]] == [
        ("same_seed:0", "seed 7"),
        ("edit:0", "seed 7"),
        ("vary_a_little:0", "seed 7"),
        ("vary_a_lot:0", "seed 7"),
        ("same_seed:1", "seed 8"),
        ("edit:1", "seed 8"),
        ("vary_a_little:1", "seed 8"),
        ("vary_a_lot:1", "seed 8"),
    ]


def test_the_menu_of_a_single_picture_offers_what_there_is_no_button_for(catalog: Catalog) -> None:
    [menu] = [item for item in _walk(finished(a_job(), catalog).to_components()) if item.get("type") == 3]
    assert [choice["value"] for choice in menu["options"]] == ["vary_a_little:0", "vary_a_lot:0"]


def test_the_pictures_of_a_variation_are_told_apart(catalog: Catalog) -> None:
    request = replace(a_job(count=2).request, variation=Variation(seed=77, strength=0.2))
    view = finished(replace(a_job(), request=request), catalog)
    [menu] = [item for item in _walk(view.to_components()) if item.get("type") == 3]
    descriptions = {choice["description"] for choice in menu["options"]}
    assert descriptions == {"seed 7, variation 77", "seed 7, variation 78"}
    [gallery] = [item for item in _walk(view.to_components()) if item.get("type") == 12]
    described = [item["description"] for item in gallery["items"]]
    assert [text.partition(" (")[2] for text in described] == ["seed 7, variation 77)", "seed 7, variation 78)"]


def test_other_orders_compare_nothing(catalog: Catalog) -> None:
    assert "pixel" not in text_of(finished(a_job(origin=Origin.REROLL), catalog))


def test_a_failed_card_gives_the_reason_and_ways_on() -> None:
    view = cards.failed_card(a_job(state=JobState.FAILED, failure="There is not enough memory."))
    assert "There is not enough memory." in text_of(view)
    assert "Edit" in labels_of(view)


def test_a_cancelled_card_says_so() -> None:
    assert "Cancelled" in text_of(cards.cancelled_card(a_job(state=JobState.CANCELLED)))


def test_buttons_carry_a_verb_and_the_job_and_nothing_else(catalog: Catalog) -> None:
    job = a_job()
    ids = [item["custom_id"] for item in _walk(finished(job, catalog).to_components()) if item.get("type") == 2]
    assert ids == [f"{verb}:{job.id}" for verb in ("reroll", "same_seed", "edit", "delete")]


@pytest.mark.parametrize(
    "nasty",
    [
        "@everyone",
        "@here",
        "<@123456789012345678>",
        "<@&123456789012345678>",
        "<#123456789012345678>",
        "<t:0:F>",
        "<:smile:123456789012345678>",
        "[click](https://evil.example)",
        "https://evil.example",
        "||hidden||",
        "# heading",
        "-# small",
        "> quote",
        "- item",
        "1. item",
        "**bold** __under__ ~~gone~~ *it*",
        "```py\ncode```",
        "`code`",
        "\\",
        "a\u202eb\u2066c\u200fd",
    ],
)
def test_markdown_in_a_prompt_stays_text(nasty: str) -> None:
    shown = cards.inert(nasty)
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_~|`<>\[\]#]", shown)
    assert not re.search(r"@(?:everyone|here|&?\d)", shown)
    assert not re.search(r"(?<!\\):", shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", shown)


@given(st.text(max_size=2000))
def test_no_prompt_breaks_a_card(prompt: str) -> None:
    view = cards.progress_card(a_job(prompt=prompt), Waiting(position=1, eta_s=None))
    assert len(text_of(view)) < 4000
    json.dumps(view.to_components())


def test_every_card_fits_discords_schema(catalog: Catalog) -> None:
    job = a_job(prompt="*" * 1000, count=4, failure="No.", seconds=100.0)
    views = [
        cards.progress_card(job, Waiting(position=1, eta_s=1000.0)),
        cards.progress_card(job, Running(progress=Progress(phase=Phase.LOADING)), note="A note."),
        finished(job, catalog),
        cards.failed_card(job),
        cards.cancelled_card(job),
    ]
    files = [{"id": index, "filename": f"{picture.id}.png"} for index, picture in enumerate(pictures_of(job))]
    bodies = [{"flags": 1 << 15, "components": view.to_components(), "attachments": files} for view in views]
    calls = [SimpleNamespace(method="POST", path="/channels/1/messages", json=body) for body in bodies]
    assert [problem for call in calls for problem in discord_schema().problems(call)] == []
