"""A busy evening, played once, and what must be true of it afterwards, for every order and every turn."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bot.store import Job, JobState, Origin
from inference.pictures.recipe import OUR_KEY, Recipe
from inference.pictures.saving import pixels_sha256
from tests.bot import studio
from tests.bot.evening import (
    MAX_PASSED_OVER,
    MAX_ROWS,
    MODELS,
    SAME_FOR_ALL,
    WEIGHTS,
    Came,
    Evening,
    Event,
    Order,
    Returned,
    Sent,
    played,
)
from tests.discord_api import schema as discord_schema

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (WEIGHTS / "emoji" / "model_index.json").exists(),
        reason="the built-in model's weights are not in this checkout",
    ),
]


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    """One thread computes: two of them wait for each other where another process keeps the processors busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(studio, "SECONDS", 400.0)
        return asyncio.run(played(tmp_path_factory.mktemp("evening")))


# -- the evening was what it should have been --------------------------------------------------------------------------


def test_fifty_people_gave_five_hundred_orders_in_five_channels(evening: Evening) -> None:
    assert len(evening.wishes) == 500
    assert len({wish.person for wish in evening.wishes}) == 50
    assert len(set(evening.channel_ids)) == len({wish.channel for wish in evening.wishes}) == 5
    assert sum(wish.again is not None for wish in evening.wishes) == 50


def test_three_workers_died_with_orders_in_hand_and_the_bot_started_twice(evening: Evening) -> None:
    assert len(evening.deaths) == 3
    assert min(evening.deaths) > 0
    assert len(evening.diaries) == 2
    before, after = (set(counted(diary)["came"]) for diary in evening.diaries)
    assert len(before & after) > MAX_ROWS


# -- every order ends once ---------------------------------------------------------------------------------------------


def test_every_order_is_one_job_that_is_done_and_told(evening: Evening) -> None:
    assert len(evening.all_jobs) == len(evening.wishes)
    assert None not in evening.jobs
    assert len({job.id for job in jobs(evening)}) == len(evening.wishes)
    assert {job.state for job in evening.all_jobs} == {JobState.DONE}
    assert all(job.delivered_at is not None and not job.missed for job in evening.all_jobs)


def test_every_order_has_one_card_with_its_one_picture(evening: Evening) -> None:
    assert evening.messages == len(evening.cards) == len(evening.wishes)
    assert evening.elsewhere == 0
    for wish, card, job in zip(evening.wishes, evening.cards, jobs(evening), strict=True):
        [picture] = evening.pictures[job.id]
        [file] = card.files
        assert card.channel_id == evening.channel_ids[wish.channel]
        assert wish.prompt in card.text
        assert (job.request.prompt, job.request.seed, picture.seed) == (wish.prompt, wish.seed, wish.seed)
        assert pixels_sha256(pixels(file).tobytes()) == picture.pixels_sha256


def test_pictures_are_shown_once_and_again_only_where_the_bot_ended_before_it_could_note_it(evening: Evening) -> None:
    for card, job in zip(evening.cards, jobs(evening), strict=True):
        assert card.shown == 1 or (job.id in evening.unsure and card.shown == 2)


def test_no_order_is_drawn_again_unless_its_worker_died_or_the_bot_ended(evening: Evening) -> None:
    *cut_short, last = map(counted, evening.diaries)
    assert last["sent"] == last["came"] + last["returned"]
    assert last["came"].total() < len(evening.wishes)
    for first in cut_short:
        assert first["sent"] <= first["came"] + first["returned"]
    for diary in (*cut_short, last):
        assert max(diary["came"].values()) == 1
        assert max(diary["returned"].values()) == 1


def test_no_file_is_left_that_belongs_to_no_card(evening: Evening) -> None:
    assert evening.files == {picture.id for job in evening.all_jobs for picture in evening.pictures[job.id]}


def test_what_was_sent_fits_discords_own_description(evening: Evening) -> None:
    assert discord_schema.problems(evening.requests) == []


# -- models ------------------------------------------------------------------------------------------------------------


def test_each_channels_pictures_come_from_its_model(evening: Evening) -> None:
    models = dict(zip(evening.channel_ids, MODELS, strict=True))
    for card, job in zip(evening.cards, jobs(evening), strict=True):
        model = models[card.channel_id]
        assert job.place.channel_id == card.channel_id
        assert job.request.model == model
        assert recipe(card.files[0]).model == model
        assert model in card.text.replace("\\", "")


def test_every_model_has_weights_of_its_own_and_keeps_them_all_evening(evening: Evening) -> None:
    weights = defaultdict(set)
    for card in evening.cards:
        made_by = recipe(card.files[0])
        weights[made_by.model].add(made_by.weights)
    assert set(weights) == set(MODELS)
    assert all(len(found) == 1 for found in weights.values())
    assert len(set[str]().union(*weights.values())) == len(MODELS)


def test_different_models_draw_the_same_prompt_and_seed_differently(evening: Evening) -> None:
    """By more than a level on average, which rounding in batches of other sizes never comes to."""
    drawn = {
        wish.channel: pixels(card.files[0]).astype(int)
        for wish, card in zip(evening.wishes, evening.cards, strict=True)
        if (wish.prompt, wish.seed) == SAME_FOR_ALL
    }
    assert len(drawn) == len(MODELS)
    for one, other in itertools.combinations(drawn.values(), 2):
        assert np.abs(one - other).mean() > 1


# -- same seed ---------------------------------------------------------------------------------------------------------


def test_every_same_seed_order_is_identical_to_the_byte_and_says_so(evening: Evening) -> None:
    orders = jobs(evening)
    for wish, card, job in zip(evening.wishes, evening.cards, orders, strict=True):
        if wish.again is None:
            assert job.origin is Origin.IMAGINE
            assert "Same seed" not in card.text
            continue
        parent = orders[wish.again]
        assert (job.origin, job.parent_id) == (Origin.SAME_SEED, parent.id)
        assert [p.pixels_sha256 for p in evening.pictures[job.id]] == [
            p.pixels_sha256 for p in evening.pictures[parent.id]
        ]
        assert card.files == evening.cards[wish.again].files
        assert "identical, pixel for pixel" in card.text


# -- whose turn it was -------------------------------------------------------------------------------------------------


def test_nobody_waits_for_more_than_the_batch_at_work_once_it_is_their_turn(evening: Evening) -> None:
    """Whoever leads a batch was drawn no more since you began to wait than you: else it was your turn. See ``unfair``.

    Only to those whose model has to be loaded it happens, at most twice for every other model that has to be.
    """
    for diary in evening.diaries:
        overtaken = list(unfair(diary))
        assert [turn for turn in overtaken if turn.order.model in turn.sent.resident] == []
        times = Counter((turn.worker, turn.order) for turn in overtaken)
        assert max(times.values(), default=0) <= MAX_PASSED_OVER * (len(MODELS) - 1)


def test_a_turn_brings_no_more_than_one_batch_and_nobody_is_overtaken_more_than_twice(evening: Evening) -> None:
    batches = [event for diary in evening.diaries for event in diary if isinstance(event, Sent)]
    assert max(len(batch.orders) for batch in batches) <= MAX_ROWS
    assert max(batch.overtaken for batch in batches) <= MAX_PASSED_OVER


@dataclass(slots=True)
class Account:
    """One person in the eyes of ``unfair``: the orders in line; how many were drawn for them, and for each of the
    others, since they began to wait; and how many since they last led a batch."""

    line: deque[Order] = field(default_factory=deque)
    mine: int = 0
    theirs: Counter[str] = field(default_factory=Counter)
    since_turn: int = 0


@dataclass(frozen=True, slots=True)
class Overtaking:
    """``order`` was first in its owner's line, and ``sent`` was led by somebody who was drawn more. ``worker`` counts
    the worker's starts."""

    order: Order
    sent: Sent
    worker: int


def unfair(diary: Iterable[Event]) -> Iterator[Overtaking]:
    """Every batch that somebody led whose turn it was not, once for each person who should have gone before.

    It follows from start-time fair queueing with equal costs, and needs no virtual time to be seen. When *you* begin to
    wait, your virtual time is the present (at most beyond it by what you were drawn since you last led), and nobody's
    who waits is less. From then on each order drawn adds one, yours or theirs. The leader has the least: no more than
    you. So leaders were drawn no more since then than you. Riding along in another's batch counts for everybody, yet
    delays nobody. Orders that a dead worker gave back were counted when they were first sent.
    """
    people: defaultdict[str, Account] = defaultdict(Account)
    given_back: set[Order] = set()
    worker = 0
    for event in diary:
        match event:
            case Came(order=order):
                person = people[order.owner]
                if not person.line:
                    person.mine, person.theirs = person.since_turn, Counter()
                person.line.append(order)
            case Returned(order=order):
                given_back.add(order)
            case Sent(orders=(first, *_) as orders, resident=resident):
                worker += not resident
                if first in given_back:
                    continue
                waiting = [person for person in people.values() if person.line]
                for person in waiting:
                    if person.theirs[first.owner] > person.mine:
                        yield Overtaking(person.line[0], event, worker)
                if all(person.line[0].model in resident for person in waiting):
                    people[first.owner].since_turn = 0
                for order in orders:
                    drawn = people[order.owner]
                    drawn.line.remove(order)
                    drawn.mine += 1
                    drawn.since_turn += 1
                    for person in waiting:
                        person.theirs[order.owner] += person is not drawn


# -- reading what is left ----------------------------------------------------------------------------------------------


def jobs(evening: Evening) -> list[Job]:
    """The job of every wish."""
    return [job for job in evening.jobs if job is not None]


def counted(diary: Iterable[Event]) -> dict[str, Counter[str]]:
    """How often every job came, was sent and was given back."""
    counts: dict[str, Counter[str]] = {"came": Counter(), "sent": Counter(), "returned": Counter()}
    for event in diary:
        match event:
            case Came(order=order):
                counts["came"][order.job_id] += 1
            case Returned(order=order):
                counts["returned"][order.job_id] += 1
            case Sent(orders=orders):
                counts["sent"].update(order.job_id for order in orders)
    return counts


def recipe(file: bytes) -> Recipe:
    """The recipe inside an attachment."""
    with Image.open(io.BytesIO(file)) as picture:
        return Recipe.from_json(picture.info[OUR_KEY])


def pixels(file: bytes) -> NDArray[np.uint8]:
    """The RGB pixels of an attachment, (height, width, 3)."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))
