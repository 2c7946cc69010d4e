"""A process of its own whose event loop is watched, as the bot is one: ``python -m benchmarks.probe worker``.

Prints JSON. It brings no torch along unless it draws in a thread: a measuring process full of networks would be stalled
by its own garbage collector.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.idle_worker import idle
from inference.contract import Finished, ImageRequest
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.processes.handle import WorkerMain, WorkerProcess, WorkerSpec, draw_for_parent

TICK_S = 0.001
WAITING = 64


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("queue", "worker", "thread"))
    parser.add_argument("--catalog", type=Path, default=Path("models/models.toml"))
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    request = _request(options.model, options.side)
    match options.what:
        case "queue":
            figures = asyncio.run(_overhead(options.catalog, request, options.orders))
        case "worker":
            figures = asyncio.run(_stalls_of_worker(options.catalog, request, options.device, options.compile))
        case _:
            figures = asyncio.run(
                _stalls_of_thread(_drawing(options.catalog, request, options.device, options.compile))
            )
    print(json.dumps(figures))


async def _overhead(catalog: Path, request: ImageRequest, orders: int) -> dict[str, list[float]]:
    """Seconds from an order's submission to its end with a worker that draws nothing: alone, and among ``WAITING``."""
    async with _house(catalog, "cpu", idle) as dispatcher:
        await _order(dispatcher, request)
        alone = [await _order(dispatcher, request) for _ in range(orders)]
        among = []
        for _ in range(5):
            started = time.perf_counter()
            await asyncio.gather(*(_order(dispatcher, request) for _ in range(WAITING)))
            among.append((time.perf_counter() - started) / WAITING)
    return {"alone_s": alone, "among_many_s": among}


async def _stalls_of_worker(
    catalog: Path, request: ImageRequest, device: str, compiles: bool
) -> dict[str, list[float]]:
    async with _house(catalog, device, draw_for_parent, compiles=compiles) as dispatcher:
        lags, took = await _watched(lambda: _order(dispatcher, request))
    return {"lags_s": lags, "took_s": [took]}


async def _stalls_of_thread(work: Callable[[], None]) -> dict[str, list[float]]:
    async def in_thread() -> float:
        started = time.perf_counter()
        await asyncio.to_thread(work)
        return time.perf_counter() - started

    lags, took = await _watched(in_thread)
    return {"lags_s": lags, "took_s": [took]}


def _drawing(catalog: Path, request: ImageRequest, device: str, compiles: bool) -> Callable[[], None]:
    """What a bot without a worker process does in a thread; the libraries are imported before anything is watched."""
    from benchmarks.ours import Ours
    from inference.batching import batch_of
    from inference.catalog import Catalog
    from inference.devices import choose_device

    compiler = "inductor" if compiles else None
    engine = Ours(Catalog.load(catalog), choose_device(device), compiler=compiler).engine
    batch = batch_of({str(uuid.uuid4()): request})

    def work() -> None:
        engine.draw(batch, lambda progress: None)

    return work


async def _watched(act: Callable[[], object]) -> tuple[list[float], float]:
    """How late the loop woke every millisecond while ``act`` went on, and how long that took."""
    gc.collect()
    lags: list[float] = []
    ticking = asyncio.create_task(_tick(lags))
    await asyncio.sleep(0.05)
    lags.clear()
    took = await act()  # type: ignore[misc]
    ticking.cancel()
    return lags, float(took)


async def _tick(lags: list[float]) -> None:
    while True:
        started = time.perf_counter()
        await asyncio.sleep(TICK_S)
        lags.append(time.perf_counter() - started - TICK_S)


@asynccontextmanager
async def _house(
    catalog: Path, device: str, worker_main: WorkerMain, *, compiles: bool = False
) -> AsyncIterator[Dispatcher]:
    """The bot's queue with a running worker."""
    with tempfile.TemporaryDirectory() as pictures:
        spec = WorkerSpec(
            catalog_path=catalog, pictures_dir=Path(pictures), device=device, safety_check=False, compile=compiles
        )
        worker = WorkerProcess(spec=spec, main=worker_main)
        dispatcher = Dispatcher(workers=[worker], queue=FairQueue(limit=1000, limit_per_owner=1000))
        await worker.start()
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            running.cancel()
            await asyncio.wait([running])


async def _order(dispatcher: Dispatcher, request: ImageRequest) -> float:
    """Seconds until its owner hears the outcome."""
    started = time.perf_counter()
    ticket = dispatcher.submit(job_id=str(uuid.uuid4()), owner="somebody", request=request)
    last = None
    async for event in ticket.events():
        last = event
    if not isinstance(last, Finished):
        raise RuntimeError(f"the order ended with {last}")
    return time.perf_counter() - started


def _request(model: str, side: int) -> ImageRequest:
    return ImageRequest(
        prompt="a red apple", model=model, seed=1, count=1, steps=1, guidance=1.0, width=side, height=side
    )


if __name__ == "__main__":
    main()
