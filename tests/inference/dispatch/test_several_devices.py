"""One dispatcher, several devices: each drives a worker of its own, and a model is on one before it is on two."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from inference.contract import Cancelled, Finished, ImageRequest, JobEvent, Phase, Running
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.stations import Patience
from inference.dispatch.ticket import Ticket
from inference.processes.handle import WorkerMain, WorkerProcess, WorkerSpec
from tests.inference import sinners

PATIENCE = Patience(first_backoff_s=0.01, longest_backoff_s=0.05)


class House:
    """A running dispatcher, and what its workers wrote into their diaries."""

    def __init__(self, dispatcher: Dispatcher, folder: Path) -> None:
        self.dispatcher = dispatcher
        self._folder = folder

    def order(self, prompt: str, *, model: str, owner: str = "ann") -> Ticket:
        request = ImageRequest(prompt=prompt, model=model, seed=7, count=1, steps=2, guidance=1, width=64, height=64)
        return self.dispatcher.submit(job_id=str(uuid.uuid4()), owner=owner, request=request)

    def diary(self, device: str) -> list[str]:
        """The models that a device drew with, in order."""
        return self._lines(f"diary {device}")

    def prefetched(self, device: str) -> list[str]:
        """The models that a device was told to bring up ahead of time, in order."""
        return self._lines(f"prefetched {device}")

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().split() if path.exists() else []


Open = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_it(*devices: str, main: WorkerMain = sinners.with_siblings) -> AsyncIterator[House]:
        spec = WorkerSpec(catalog_path=tmp_path, pictures_dir=tmp_path)

        def hire(device: str) -> WorkerProcess:
            return WorkerProcess(spec=replace(spec, device=device), main=main)

        workers = [hire(device) for device in devices]
        dispatcher = Dispatcher(workers=workers, queue=FairQueue(), patience=PATIENCE, hire=hire)
        running = asyncio.create_task(dispatcher.run())
        try:
            yield House(dispatcher, tmp_path)
        finally:
            running.cancel()
            await asyncio.wait([running])

    return open_it


async def ended(ticket: Ticket) -> JobEvent:
    async with asyncio.timeout(60):
        return [event async for event in ticket.events()][-1]


async def begun(ticket: Ticket) -> None:
    """Wait until a ``slow`` order is being drawn, which then goes on until it is cancelled."""
    async with asyncio.timeout(60):
        async for event in ticket.events():
            if isinstance(event, Running) and event.progress.phase is Phase.DRAWING:
                return


async def test_two_devices_draw_at_the_same_time(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        slow = [house.order("slow", model=model, owner=model) for model in ("x", "y")]
        for ticket in slow:
            await begun(ticket)
        assert house.dispatcher.resident == frozenset()
        for ticket in slow:
            house.dispatcher.cancel(ticket.job_id)
            assert isinstance(await ended(ticket), Cancelled)
        assert sorted([*house.diary("a"), *house.diary("b")]) == ["x", "y"]


async def test_a_model_stays_on_the_device_that_holds_it(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        await both_up(house)
        for _round in range(4):
            for model in ("x", "y"):
                assert isinstance(await ended(house.order("an owl", model=model)), Finished)
        diaries = [house.diary(device)[1:] for device in ("a", "b")]
        assert sorted(diaries) == [["x"] * 4, ["y"] * 4]


async def test_an_order_for_a_busy_devices_model_lets_others_pass(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        busy = house.order("slow", model="x")
        await begun(busy)
        other = house.order("slow", model="y", owner="bob")
        await begun(other)
        house.order("an owl", model="x", owner="cy")
        new = house.order("an owl", model="z", owner="dee")
        house.dispatcher.cancel(other.job_id)
        assert isinstance(await ended(new), Finished)
        diaries = [house.diary("a"), house.diary("b")]
        assert ["y", "z"] in [diary[:2] for diary in diaries]


async def test_one_model_alone_is_drawn_on_all_devices_when_all_are_needed(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        slow = [house.order("slow", model="x", owner="ann")]
        await begun(slow[0])
        slow.append(house.order("slow", model="x", owner="bob"))
        await begun(slow[1])
        assert (house.diary("a"), house.diary("b")) == (["x"], ["x"])


async def test_all_devices_of_the_best_kind_are_found(open_house: Open) -> None:
    async with open_house("auto") as house:
        slow = [house.order("slow", model=model, owner=model) for model in ("x", "y", "z")]
        for ticket in slow:
            await begun(ticket)
        assert [len(house.diary(device)) for device in ("auto", "gpu:1", "gpu:2")] == [1, 1, 1]


async def test_a_device_that_never_starts_leaves_the_work_to_the_others(open_house: Open) -> None:
    async with open_house("a", "b", main=sinners.dead_unless_first) as house:
        ends = [await ended(house.order("an owl", model="x")) for _number in range(3)]
        assert all(isinstance(end, Finished) for end in ends)


async def test_what_a_dead_worker_had_in_hand_is_drawn_all_the_same(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        assert isinstance(await ended(house.order("kill me once", model="x")), Finished)


async def test_an_idle_device_takes_at_once_what_a_dead_one_had_in_hand(open_house: Open) -> None:
    async with open_house("a", "b", main=sinners.killed_for_good) as house:
        await both_up(house)
        assert isinstance(await ended(house.order("kill me once", model="x")), Finished)


async def test_while_a_good_device_restarts_nothing_fails_because_of_one_that_never_starts(open_house: Open) -> None:
    async with open_house("a", "b", main=sinners.slow_to_rise) as house:
        assert isinstance(await ended(house.order("an owl", model="x")), Finished)
        async with asyncio.timeout(60):
            while house.dispatcher._stations[1].failed_starts < PATIENCE.starts_before_giving_up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        orders = [house.order(prompt, model="x", owner=prompt) for prompt in ("kill me once", "an owl", "a fox")]
        assert all([isinstance(await ended(order), Finished) for order in orders])


async def test_a_free_device_draws_what_the_one_that_holds_the_model_is_too_busy_for(open_house: Open) -> None:
    """Both are free, and the first leaves the leader to the second, which holds both models and can draw with one."""
    async with open_house("a", "b") as house:
        await both_up(house)
        busy = house.order("slow", model="z")
        await begun(busy)
        for model in ("x", "y"):
            assert isinstance(await ended(house.order("keep", model=model, owner="bob")), Finished)
        house.dispatcher.cancel(busy.job_id)
        async with asyncio.timeout(60):
            while any(station.batch for station in house.dispatcher._stations):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        slow = [house.order("slow", model=model, owner=f"newcomer for {model}") for model in ("x", "y")]
        for order in slow:
            await begun(order)


async def both_up(house: House) -> None:
    """Both devices have drawn once."""
    first = [house.order("slow", model=model, owner=model) for model in ("v", "w")]
    for ticket in first:
        await begun(ticket)
    for ticket in first:
        house.dispatcher.cancel(ticket.job_id)
        await ended(ticket)


async def test_a_worker_is_told_once_what_to_bring_up_while_it_draws(open_house: Open) -> None:
    async with open_house("a") as house:
        slow = house.order("slow", model="x")
        await begun(slow)
        next_ones = [house.order("an owl", model=model, owner=model) for model in ("y", "y", "z")]
        house.dispatcher.cancel(slow.job_id)
        assert [type(await ended(ticket)) for ticket in next_ones] == [Finished] * 3
        assert house.diary("a") == ["x", "y", "z"]
        assert house.prefetched("a") == ["y", "z"]


async def test_what_a_free_device_takes_at_once_is_prepared_on_none(open_house: Open) -> None:
    async with open_house("a", "b") as house:
        slow = [house.order("slow", model=model, owner=model) for model in ("x", "y")]
        for ticket in slow:
            await begun(ticket)
        assert house.prefetched("a") + house.prefetched("b") == []
        waiting = house.order("slow", model="z", owner="cy")
        house.dispatcher.cancel(slow[0].job_id)
        await begun(waiting)
        assert house.prefetched("a") + house.prefetched("b") in (["z"], [])
