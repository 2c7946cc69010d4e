"""The dispatcher with real child processes: every order ends exactly once, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from inference.contract import (
    Cancelled,
    Failed,
    Finished,
    ImageRequest,
    JobEvent,
    Phase,
    Picture,
    Retrying,
    Running,
    Waiting,
    picture_id,
)
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.stations import Patience
from inference.dispatch.ticket import Ticket
from inference.errors import (
    DeviceUnknown,
    InferenceError,
    TooManyWaiting,
    Unexpected,
    WeightsUnreadable,
    WorkerDied,
    WorkerTimedOut,
    WorkerUnavailable,
)
from inference.messages import Stop
from inference.processes import handle as handle_module
from inference.processes.handle import WorkerMain, WorkerProcess, WorkerSpec
from tests.inference import sinners

LONG = 100.0
"""Seconds to hold a batch for: a test that waited for that, or for the gap within it, would fail."""
QUICK = Patience(load_timeout_s=30, step_timeout_s=30, first_backoff_s=0.01, longest_backoff_s=0.05)


class Workplace:
    """A running dispatcher with one worker, and short words to order from it."""

    def __init__(self, dispatcher: Dispatcher, worker: WorkerProcess) -> None:
        self.dispatcher = dispatcher
        self.worker = worker

    def order(
        self, prompt: str = "a red apple", *, owner: str = "ann", count: int = 1, steps: int = 2, model: str = "m"
    ) -> Ticket:
        request = ImageRequest(
            prompt=prompt, model=model, seed=7, count=count, steps=steps, guidance=1, width=64, height=64
        )
        return self.dispatcher.submit(job_id=str(uuid.uuid4()), owner=owner, request=request)


Open = Callable[..., AbstractAsyncContextManager[Workplace]]


@pytest.fixture
def open_workplace(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_it(
        main: WorkerMain = sinners.innocent,
        *,
        patience: Patience = QUICK,
        start_timeout_s: float = 30,
        batch_wait_s: float = 0.02,
        discard: Callable[[tuple[Picture, ...]], None] = lambda pictures: None,
        **limits: int,
    ) -> AsyncIterator[Workplace]:
        spec = WorkerSpec(catalog_path=tmp_path, pictures_dir=tmp_path)
        worker = WorkerProcess(spec=spec, main=main, start_timeout_s=start_timeout_s)
        dispatcher = Dispatcher(
            workers=[worker],
            queue=FairQueue(**limits),
            patience=patience,
            batch_wait_s=batch_wait_s,
            discard=discard,
        )
        draining = asyncio.create_task(dispatcher.run())
        try:
            yield Workplace(dispatcher, worker)
        finally:
            draining.cancel()
            async with asyncio.timeout(15):
                await asyncio.wait([draining])
            assert draining.cancelled()

    return open_it


async def heard(ticket: Ticket, *, timeout_s: float = 60) -> list[JobEvent]:
    async with asyncio.timeout(timeout_s):
        return [event async for event in ticket.events()]


async def hear_until(ticket: Ticket, wanted: Callable[[JobEvent], bool]) -> None:
    async with asyncio.timeout(60):
        async for event in ticket.events():
            if wanted(event):
                return
    raise AssertionError("it ended before")


async def see_through(slow: Ticket, place: Workplace) -> None:
    """Have the worker hurry, and wait for its pictures: by then the device has been free, and offered what waits."""
    place.worker.send(Stop(job_id="of nobody"))
    assert isinstance((await heard(slow))[-1], Finished)


def drawing(event: JobEvent) -> bool:
    return isinstance(event, Running) and event.progress.phase is Phase.DRAWING


async def test_an_order_is_drawn_and_its_pictures_have_seeds_and_lasting_ids(open_workplace: Open) -> None:
    async with open_workplace() as place:
        ticket = place.order(count=3)
        *_, end = await heard(ticket)
    assert isinstance(end, Finished)
    assert [picture.seed for picture in end.pictures] == [7, 8, 9]
    assert [picture.id for picture in end.pictures] == [picture_id(ticket.job_id, index) for index in range(3)]
    assert {picture.bucket for picture in end.pictures} == {4}


async def test_of_the_previews_of_a_batch_everybody_gets_their_own_and_the_latest_stay(open_workplace: Open) -> None:
    async with open_workplace() as place:
        tickets = [place.order("sketch", count=2, steps=3), place.order("sketch", owner="bob", count=2, steps=3)]
        for ticket in tickets:
            *news, end = await heard(ticket)
            assert isinstance(end, Finished)
            running = [event.progress for event in news if isinstance(event, Running)]
            shown = [[preview.content.decode() for preview in progress.previews] for progress in running]
            assert shown[-1] == [picture_id(ticket.job_id, index) for index in range(2)]
            assert {len(previews) for previews in shown} <= {0, 2}


async def test_that_a_batch_is_decoded_is_told_once(open_workplace: Open) -> None:
    """How many of its pictures are done is no news to those who wait: their cards would only be edited for nothing."""
    async with open_workplace() as place:
        told = [event async for event in place.order("decode slowly").events()]
    phases = [event.progress.phase for event in told if isinstance(event, Running)]
    assert phases.count(Phase.DECODING) == 1


async def test_waiting_orders_know_their_position_and_in_time_their_eta(open_workplace: Open) -> None:
    async with open_workplace() as place:
        await heard(place.order())
        slow = place.order("slow")
        await hear_until(slow, drawing)
        waiting = [place.order(owner=owner, model="n") for owner in ("bob", "cy")]
        known = place.order(owner="dee", model="m", steps=3)
        assert [await anext(ticket.events()) for ticket in waiting] == [
            Waiting(position=1, eta_s=None),
            Waiting(position=2, eta_s=None),
        ]
        place.dispatcher.cancel(waiting[0].job_id)
        place.dispatcher.cancel(waiting[1].job_id)
        assert isinstance(known.latest, Waiting)
        assert known.latest.position == 1
        assert known.latest.eta_s is not None
        place.dispatcher.cancel(slow.job_id)


async def test_orders_of_different_people_are_drawn_together(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        tickets = [place.order(owner=owner, count=2) for owner in ("bob", "cy")]
        place.dispatcher.cancel(slow.job_id)
        ends = [(await heard(ticket))[-1] for ticket in tickets]
    assert [end.pictures[0].bucket for end in ends if isinstance(end, Finished)] == [4, 4]


async def test_a_batch_is_held_while_its_kind_keeps_coming_until_it_is_full(open_workplace: Open) -> None:
    async with open_workplace(batch_wait_s=LONG, max_rows=4) as place:
        slow = place.order("slow", steps=3)
        await hear_until(slow, drawing)
        tickets = [place.order(owner=owner) for owner in ("bob", "cy")]
        await see_through(slow, place)
        for owner in ("dee", "eve"):
            assert isinstance(tickets[-1].latest, Waiting)
            tickets.append(place.order(owner=owner))
        ends = [(await heard(ticket, timeout_s=LONG / 4))[-1] for ticket in tickets]
    assert [end.pictures[0].bucket for end in ends if isinstance(end, Finished)] == [4, 4, 4, 4]


@pytest.mark.parametrize("taken_back", [0, 1])
async def test_a_lone_order_is_drawn_at_once_also_when_its_company_is_taken_back(
    open_workplace: Open, taken_back: int
) -> None:
    async with open_workplace(batch_wait_s=LONG) as place:
        slow = place.order("slow", steps=3)
        await hear_until(slow, drawing)
        tickets = [place.order(owner=owner) for owner in ("bob", "cy")[: taken_back + 1]]
        await see_through(slow, place)
        for ticket in tickets[1:]:
            assert isinstance(ticket.latest, Waiting)
            place.dispatcher.cancel(ticket.job_id)
        assert isinstance((await heard(tickets[0], timeout_s=LONG / 4))[-1], Finished)


async def test_a_held_batch_is_drawn_when_nobody_else_comes(open_workplace: Open) -> None:
    async with open_workplace(batch_wait_s=0.4) as place:
        slow = place.order("slow", steps=50)
        await hear_until(slow, drawing)
        tickets = [place.order(owner=owner) for owner in ("bob", "cy")]
        place.dispatcher.cancel(slow.job_id)
        ends = [(await heard(ticket))[-1] for ticket in tickets]
    assert [end.pictures[0].bucket for end in ends if isinstance(end, Finished)] == [2, 2]


async def test_a_waiting_order_is_taken_back(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        waiting = place.order()
        assert place.dispatcher.cancel(waiting.job_id)
        assert (await heard(waiting))[-1] == Cancelled()
        assert not place.dispatcher.cancel(waiting.job_id)
        place.dispatcher.cancel(slow.job_id)


async def test_a_running_order_is_taken_back_between_steps_and_the_next_one_is_drawn(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow", steps=50)
        await hear_until(slow, drawing)
        place.dispatcher.cancel(slow.job_id)
        assert (await heard(slow))[-1] == Cancelled()
        assert isinstance((await heard(place.order()))[-1], Finished)


async def test_the_pictures_of_an_order_that_was_taken_back_while_they_were_saved_are_discarded(
    open_workplace: Open,
) -> None:
    discarded: asyncio.Future[tuple[Picture, ...]] = asyncio.get_running_loop().create_future()
    async with open_workplace(discard=discarded.set_result) as place:
        order = place.order("save slowly", count=2)
        await hear_until(order, lambda event: isinstance(event, Running) and event.progress.phase is Phase.SAVING)
        place.dispatcher.cancel(order.job_id)
        assert (await heard(order))[-1] == Cancelled()
        async with asyncio.timeout(60):
            pictures = await discarded
    assert [picture.id for picture in pictures] == [picture_id(order.job_id, index) for index in range(2)]


async def test_taking_one_order_back_leaves_the_others_of_its_batch_alone(open_workplace: Open) -> None:
    async with open_workplace() as place:
        first = place.order("slow")
        await hear_until(first, drawing)
        bob, cy = place.order("slow", owner="bob"), place.order("slow", owner="cy")
        place.dispatcher.cancel(first.job_id)
        await hear_until(cy, drawing)
        place.dispatcher.cancel(bob.job_id)
        assert (await heard(bob))[-1] == Cancelled()
        assert isinstance((await heard(cy))[-1], Finished)


async def test_a_failed_batch_is_tried_one_by_one_so_only_the_guilty_fails(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        guilty, innocent = place.order("fail", owner="bob"), place.order(owner="cy")
        place.dispatcher.cancel(slow.job_id)
        assert (await heard(guilty))[-1] == Failed(failure=Unexpected(reference="abc"))
        assert isinstance((await heard(innocent))[-1], Finished)


async def test_what_all_orders_for_a_model_meet_with_is_met_with_once(open_workplace: Open, tmp_path: Path) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        orders = [place.order("find it damaged", owner=owner) for owner in ("bob", "cy", "di")]
        place.dispatcher.cancel(slow.job_id)
        ends = [(await heard(order))[-1] for order in orders]
        assert all(isinstance(end, Failed) and isinstance(end.failure, WeightsUnreadable) for end in ends)
    assert (tmp_path / "damaged auto").read_text() == "m\n", "one batch"


async def test_a_failed_batch_is_no_try_of_those_who_shared_it(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        guilty, unlucky = place.order("fail", owner="bob"), place.order("kill me once alone", owner="cy")
        place.dispatcher.cancel(slow.job_id)
        assert isinstance((await heard(guilty))[-1], Failed)
        news = await heard(unlucky)
    assert any(isinstance(event, Retrying) for event in news)
    assert isinstance(news[-1], Finished)
    assert unlucky.attempts == 2


async def test_a_job_whose_worker_was_killed_is_told_and_drawn_on_the_second_try(open_workplace: Open) -> None:
    async with open_workplace() as place:
        news = await heard(place.order("kill me once"))
    assert any(event == Retrying(failure=WorkerDied(reason="killed by SIGKILL")) for event in news)
    assert isinstance(news[-1], Finished)


async def test_a_poisonous_job_kills_two_workers_and_nobody_elses_order(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        poison = place.order("kill me", owner="bob")
        others = [place.order(owner=owner) for owner in ("cy", "dee", "eve")]
        place.dispatcher.cancel(slow.job_id)
        assert (await heard(poison))[-1] == Failed(failure=WorkerDied(reason="killed by SIGKILL"))
        for other in others:
            assert isinstance((await heard(other))[-1], Finished)


async def test_an_order_taken_back_before_its_worker_crashes_is_answered_once(open_workplace: Open) -> None:
    async with open_workplace() as place:
        slow = place.order("slow")
        await hear_until(slow, drawing)
        place.dispatcher.cancel(slow.job_id)
        assert place.worker.pid is not None
        os.kill(place.worker.pid, signal.SIGKILL)
        assert (await heard(slow))[-1] == Cancelled()
        assert isinstance((await heard(place.order()))[-1], Finished)


async def test_an_idle_worker_that_is_killed_is_replaced(open_workplace: Open) -> None:
    async with open_workplace() as place:
        await heard(place.order())
        assert place.worker.pid is not None
        os.kill(place.worker.pid, signal.SIGKILL)
        assert isinstance((await heard(place.order()))[-1], Finished)


async def test_a_hanging_worker_is_ended_and_its_job_fails_after_the_second_try(open_workplace: Open) -> None:
    patience = Patience(load_timeout_s=0.3, step_timeout_s=0.3, first_backoff_s=0.01)
    async with open_workplace(patience=patience) as place:
        end = (await heard(place.order("hang")))[-1]
    assert end == Failed(failure=WorkerTimedOut(seconds=0.3))


async def test_newcomers_do_not_prolong_a_hanging_workers_time(open_workplace: Open) -> None:
    patience = Patience(load_timeout_s=0.5, step_timeout_s=0.5, first_backoff_s=0.01)
    async with open_workplace(patience=patience, limit_per_owner=1000) as place:
        hanging = place.order("hang")

        async def keep_ordering() -> None:
            while True:
                place.order("slow", owner="bob")
                await asyncio.sleep(0.05)

        crowd = asyncio.create_task(keep_ordering())
        await hear_until(hanging, lambda event: event == Retrying(failure=WorkerTimedOut(seconds=0.5)))
        crowd.cancel()


@pytest.mark.parametrize("main", [sinners.dead_at_start, sinners.refusing_at_start, sinners.silent_at_start])
async def test_a_worker_that_never_starts_fails_its_orders_with_the_reason(
    open_workplace: Open, main: WorkerMain
) -> None:
    async with open_workplace(main, start_timeout_s=0.5 if main is sinners.silent_at_start else 30) as place:
        end = (await heard(place.order()))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.failure, WorkerUnavailable)


async def test_a_device_that_there_never_was_ends_the_drawing(tmp_path: Path) -> None:
    spec = WorkerSpec(catalog_path=tmp_path, pictures_dir=tmp_path)
    dispatcher = Dispatcher(workers=[WorkerProcess(spec=spec, main=sinners.misnamed)], queue=FairQueue())
    with pytest.raises(ExceptionGroup) as raised:
        await dispatcher.run()
    [error] = raised.value.exceptions
    assert isinstance(error, InferenceError)
    assert error.failure == DeviceUnknown(device="cuda:9", available=("cpu",))


async def test_a_device_that_is_lost_fails_the_orders_alone(open_workplace: Open) -> None:
    async with open_workplace(sinners.gone_at_the_next_start) as place:
        end = (await heard(place.order("kill me once")))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.failure, WorkerUnavailable)


async def test_a_worker_that_starts_at_the_third_try_serves_what_waited(open_workplace: Open) -> None:
    patience = Patience(first_backoff_s=0.01, starts_before_giving_up=5)
    async with open_workplace(sinners.dead_until_the_third_start, patience=patience) as place:
        assert isinstance((await heard(place.order()))[-1], Finished)


async def test_more_waiting_orders_than_a_person_may_have_are_refused(open_workplace: Open) -> None:
    async with open_workplace(limit_per_owner=2) as place:
        slow = place.order("slow", owner="eve")
        await hear_until(slow, drawing)
        place.order(), place.order()
        with pytest.raises(InferenceError) as refusal:
            place.order()
        assert refusal.value.failure == TooManyWaiting(limit=2)
        place.dispatcher.cancel(slow.job_id)


async def test_a_worker_that_has_hung_up_is_not_left_alive_beside_the_next_one(
    open_workplace: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_module, "DYING_S", 0.5)
    async with open_workplace(sinners.silent_for_good) as place:
        ticket = place.order()
        await hear_until(ticket, lambda event: isinstance(event, Running))
        assert place.worker.pid is not None
        first = psutil.Process(place.worker.pid)
        await hear_until(ticket, lambda event: isinstance(event, Retrying))
        assert not first.is_running()


async def test_closing_leaves_unfinished_orders_open_and_no_process_behind(open_workplace: Open) -> None:
    async with open_workplace() as place:
        ticket = place.order("slow")
        await hear_until(ticket, drawing)
        assert place.worker.pid is not None
        child = psutil.Process(place.worker.pid)
    assert not ticket.settled
    assert not child.is_running()
