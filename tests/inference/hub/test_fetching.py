"""Orders for a model that is still on the hub: real downloads in real processes, beside a worker that draws."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from inference.catalog import Catalog
from inference.contract import Adapter, Cancelled, Downloading, Failed, Finished, ImageRequest, JobEvent
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.ticket import Ticket
from inference.errors import CatalogUnreadable, InferenceError, TooManyWaiting
from inference.hub.fetching import Fetching
from inference.hub_errors import DownloadDamaged, DownloadInterrupted, DownloadsOff, HubUnreachable
from inference.processes.handle import WorkerProcess, WorkerSpec
from tests import hub as hub_server
from tests.checkpoints import TinyModels
from tests.hub import Hub
from tests.inference import sinners

ROOT = Path(__file__).parents[3]
UNET = "unet/diffusion_pytorch_model.safetensors"
HEAD = 'family = "emoji"\nkind = "native"\nsize = [64, 64]\nsides = [32, 128]\n'
CATALOG = f"""
default = "here"
[models.here]
{HEAD}weights = {{ path = "tiny-lcm" }}
[models.tiny]
{HEAD}title = "Tiny"
weights = {{ hub = "someone/tiny" }}
[adapters.flat]
family = "emoji"
weights = {{ hub = "someone/flat", file = "flat.safetensors" }}
"""


PARENT = """
import multiprocessing, pathlib, sys, time
from inference.hub.fetcher import FetchSpec, fetch_for_parent
context = multiprocessing.get_context("spawn")
ours, theirs = context.Pipe()
spec = FetchSpec(catalog_path=pathlib.Path(sys.argv[1]), names=("tiny",))
child = context.Process(target=fetch_for_parent, args=(theirs, spec))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


class Workplace:
    """A running dispatcher that downloads, and short words to order from it."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def order(self, model: str = "tiny", *, owner: str = "ann", resumed: bool = False, lora: str = "") -> Ticket:
        request = ImageRequest(
            prompt="a fox",
            model=model,
            seed=7,
            count=1,
            steps=2,
            guidance=3,
            width=64,
            height=64,
            adapters=(Adapter(name=lora),) if lora else (),
        )
        return self.dispatcher.submit(job_id=str(uuid.uuid4()), owner=owner, request=request, resumed=resumed)


@pytest.fixture
def catalog_path(tiny_models: TinyModels, hub: Hub, tmp_path: Path) -> Path:
    hub.publish("someone/tiny", tiny_models.native)
    hub.publish("someone/flat", tiny_models.kohya.parent, only=tiny_models.kohya.name)
    (tmp_path / "tiny-lcm").symlink_to(tiny_models.native)
    (tmp_path / "models.toml").write_text(CATALOG)
    return tmp_path / "models.toml"


@asynccontextmanager
async def a_workplace(
    catalog_path: Path, *, allowed: bool = True, log_level: str = "INFO", **limits: int
) -> AsyncIterator[Workplace]:
    spec = WorkerSpec(catalog_path=catalog_path, pictures_dir=catalog_path.parent)
    fetching = Fetching(
        catalog=Catalog.load(catalog_path), catalog_path=catalog_path, allowed=allowed, log_level=log_level
    )
    dispatcher = Dispatcher(
        workers=[WorkerProcess(spec=spec, main=sinners.innocent)], queue=FairQueue(**limits), fetching=fetching
    )
    running = asyncio.create_task(dispatcher.run())
    try:
        yield Workplace(dispatcher)
    finally:
        running.cancel()
        async with asyncio.timeout(15):
            await asyncio.wait([running])
        assert running.cancelled()


async def heard(ticket: Ticket) -> list[JobEvent]:
    async with asyncio.timeout(60):
        return [event async for event in ticket.events()]


async def under_way(ticket: Ticket) -> Downloading:
    """The first news of a download that has begun."""
    async with asyncio.timeout(60):
        async for event in ticket.events():
            if isinstance(event, Downloading) and event.total_bytes and event.done_bytes:
                return event
    raise AssertionError("it ended before")


def children() -> set[psutil.Process]:
    """The child processes that there are, but for multiprocessing's own."""
    living = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return {child for child in living if "spawn_main" in " ".join(child.cmdline())}


async def test_a_model_is_downloaded_once_for_all_who_wait_and_others_are_drawn_meanwhile(
    catalog_path: Path, hub: Hub
) -> None:
    hub.hold_after = 300_000
    async with a_workplace(catalog_path) as place:
        first, second = place.order(), place.order(owner="bob")
        news = await under_way(first)
        assert news.model == "Tiny"
        assert news.total_bytes is not None
        assert 0 < news.done_bytes < news.total_bytes
        assert isinstance((await heard(place.order("here")))[-1], Finished)
        assert isinstance(place.dispatcher.standing()[second.job_id], Downloading)
        assert len(place.dispatcher) == 2
        hub.go.set()
        assert isinstance((await heard(first))[-1], Finished)
        assert isinstance((await heard(second))[-1], Finished)
    assert len(hub.files_asked()) == len(set(hub.files_asked()))


async def test_a_lora_is_downloaded_for_the_order_that_names_it(catalog_path: Path, hub: Hub) -> None:
    async with a_workplace(catalog_path) as place:
        assert isinstance((await heard(place.order("here", lora="flat")))[-1], Finished)
    assert hub.files_asked() == ["flat.safetensors"]


async def test_orders_that_wait_for_a_download_count_as_waiting(catalog_path: Path, hub: Hub) -> None:
    hub.hold_after = 0
    async with a_workplace(catalog_path, limit_per_owner=2) as place:
        place.order(), place.order()
        with pytest.raises(InferenceError) as refusal:
            place.order("here")
        assert refusal.value.failure == TooManyWaiting(limit=2)
        assert place.dispatcher.waiting_for("ann") == 2


async def test_taking_the_last_order_back_stops_the_download_and_the_next_goes_on_with_it(
    catalog_path: Path, hub: Hub
) -> None:
    hub.hold_after = 600_000
    async with a_workplace(catalog_path) as place:
        await heard(place.order("here"))
        workers = children()
        first, second = place.order(), place.order(owner="bob")
        await under_way(first)
        [fetcher] = children() - workers
        place.dispatcher.cancel(first.job_id)
        assert (await heard(first))[-1] == Cancelled()
        assert fetcher.is_running()
        place.dispatcher.cancel(second.job_id)
        await asyncio.to_thread(psutil.wait_procs, [fetcher], 10)
        assert not fetcher.is_running()
        assert len(place.dispatcher) == 0
        hub.go.set()
        assert isinstance((await heard(place.order()))[-1], Finished)
    assert any(asked.range for asked in hub.requests)


async def test_more_downloads_than_two_wait_for_each_other(
    catalog_path: Path, hub: Hub, tiny_models: TinyModels
) -> None:
    names = ("first", "second", "third", "fourth")
    for name in names:
        hub.publish(f"someone/{name}", tiny_models.native)
    more = "".join(f'[models.{name}]\n{HEAD}weights = {{ hub = "someone/{name}" }}\n' for name in names)
    catalog_path.write_text(f"{CATALOG}{more}")
    hub.hold_after = 300_000
    async with a_workplace(catalog_path) as place:
        await heard(place.order("here"))
        workers = children()
        tickets = [place.order(name, owner=name) for name in names]
        for ticket in tickets[:2]:
            await under_way(ticket)
        fetchers = children() - workers
        assert len(fetchers) == 2
        assert tickets[3].latest == Downloading(model="fourth", done_bytes=0, total_bytes=None)
        place.dispatcher.cancel(tickets[2].job_id)  # while it waits
        place.dispatcher.cancel(tickets[0].job_id)  # while it downloads
        await under_way(tickets[3])
        assert len(children() - workers) == 2
        hub.go.set()
        assert isinstance((await heard(tickets[1]))[-1], Finished)
        assert isinstance((await heard(tickets[3]))[-1], Finished)


async def test_a_download_that_fails_ends_every_order_that_waited_with_the_reason(catalog_path: Path, hub: Hub) -> None:
    hub.wrong.add(UNET)
    async with a_workplace(catalog_path) as place:
        tickets = [place.order(), place.order(owner="bob")]
        ends = [(await heard(ticket))[-1] for ticket in tickets]
        assert ends == [Failed(failure=DownloadDamaged(name="tiny", file=f"someone/tiny/{UNET}"))] * 2
        hub.wrong.clear()
        assert isinstance((await heard(place.order()))[-1], Finished)


async def test_without_a_network_an_order_says_what_to_do(
    catalog_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub_server.use(monkeypatch, url="http://127.0.0.1:9", home=tmp_path)
    async with a_workplace(catalog_path) as place:
        end = (await heard(place.order()))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.failure, HubUnreachable)


async def test_a_killed_download_is_told_and_gone_on_with(catalog_path: Path, hub: Hub) -> None:
    hub.hold_after = 600_000
    async with a_workplace(catalog_path) as place:
        await heard(place.order("here"))
        workers = children()
        ticket = place.order()
        await under_way(ticket)
        [fetcher] = children() - workers
        fetcher.kill()
        assert (await heard(ticket))[-1] == Failed(failure=DownloadInterrupted(name="tiny", reason="killed by SIGKILL"))
        hub.go.set()
        assert isinstance((await heard(place.order()))[-1], Finished)
    assert any(asked.range for asked in hub.requests)


async def test_closing_ends_the_download_and_leaves_its_orders_open(catalog_path: Path, hub: Hub) -> None:
    hub.hold_after = 300_000
    before = children()
    async with a_workplace(catalog_path) as place:
        ticket = place.order()
        await under_way(ticket)
    assert not ticket.settled
    assert children() == before


@pytest.mark.parametrize(("log_level", "logged"), [("INFO", 1), ("ERROR", 0)])
@pytest.mark.usefixtures("hub")
async def test_a_download_logs_as_much_as_it_is_told(
    catalog_path: Path, capfd: pytest.CaptureFixture[str], log_level: str, logged: int
) -> None:
    catalog_path.write_text(f'{CATALOG}[previews]\nemoji = {{ hub = "someone/gone" }}\n')
    async with a_workplace(catalog_path, log_level=log_level) as place:
        assert isinstance((await heard(place.order()))[-1], Finished)
    assert capfd.readouterr().err.count("There will be no previews") == logged


def test_a_download_ends_with_its_parent_however_that_ends(catalog_path: Path, hub: Hub) -> None:
    hub.hold_after = 0
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(catalog_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    while not hub.files_asked():
        time.sleep(0.02)
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs([child], 30)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE


async def test_a_catalogue_that_is_broken_meanwhile_is_told(catalog_path: Path) -> None:
    async with a_workplace(catalog_path) as place:
        catalog_path.write_text("default = ")
        end = (await heard(place.order()))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.failure, CatalogUnreadable)
    assert str(catalog_path) in end.failure.reason


async def test_where_downloads_are_off_orders_are_refused_and_resumed_ones_end(catalog_path: Path, hub: Hub) -> None:
    async with a_workplace(catalog_path, allowed=False) as place:
        with pytest.raises(InferenceError) as refusal:
            place.order()
        assert refusal.value.failure == DownloadsOff(name="tiny")
        assert (await heard(place.order(resumed=True)))[-1] == Failed(failure=DownloadsOff(name="tiny"))
    assert hub.requests == []
