"""How soon Discord hears from the bot while 200 orders wait and models load: ``python -m benchmarks.acknowledge``.

The real bot on SimCord with its real worker process; the catalogue's models on this machine take turns, so that the
worker is always loading or drawing. A hundred people order one after the other; measured is the time from the
interaction's arrival at the bot to its first answer. Discord gives up after 3 s. The baseline, in the same run, is an
idle bot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import discord
import simcord

from bot import app
from bot.settings import ROOT, Settings
from bot.store import open_store
from inference.catalog import Catalog
from inference.contract import ImageRequest
from inference.dispatch.dispatcher import Dispatcher

WAITING = 200
ORDERS, IDLE = 100, 20
LIMIT_MS = 250.0


class Clock:
    """Notes when each interaction arrives and when it is first answered."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []

    def watch(self, client: discord.Client) -> None:
        """Put a stopwatch around the interactions of ``client``."""
        parse = client._connection.parsers["INTERACTION_CREATE"]

        def arrived(data: Any) -> None:
            self._arrival = time.perf_counter()
            parse(data)

        client._connection.parsers["INTERACTION_CREATE"] = arrived
        defer = discord.InteractionResponse.defer

        async def answered(response: Any, **options: Any) -> Any:
            result = await defer(response, **options)
            self.waits_ms.append((time.perf_counter() - self._arrival) * 1000)
            return result

        discord.InteractionResponse.defer = answered  # type: ignore[method-assign,assignment]


async def measure(orders: int) -> dict[str, list[float]]:
    """Waits in milliseconds, of an idle bot and of a busy one."""
    with tempfile.TemporaryDirectory() as folder:
        none = 100_000
        settings = Settings(
            data_dir=Path(folder), queue_limit=none, queue_limit_per_user=none, queue_limit_per_server=none
        )
        catalog = Catalog.load(settings.catalog)
        async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
            dispatcher = app.make_dispatcher(settings, catalog)
            bot = app.make_bot(settings, store, catalog, dispatcher)
            async with simcord.run(bot, check_errors=False) as env:
                channel = env.create_guild("Bench").create_text_channel("pictures")
                people = [channel.guild.add_member(env.create_user(f"person{index}")) for index in range(IDLE + orders)]
                clock = Clock()
                clock.watch(bot)
                idle = await _order(people[:IDLE], channel, clock)
                tasks = [asyncio.create_task(dispatcher.run()), asyncio.create_task(bot.background.run())]
                keeper = asyncio.create_task(_keep_waiting(dispatcher, catalog))
                await asyncio.sleep(1)
                busy = await _order(people[IDLE:], channel, clock)
                for task in (keeper, *tasks):
                    task.cancel()
                await asyncio.wait([keeper, *tasks])
    return {"idle_ms": idle, "busy_ms": busy}


async def _order(people: list[Any], channel: Any, clock: Clock) -> list[float]:
    clock.waits_ms = []
    for person in people:
        await person.slash(channel, "imagine", prompt="a red apple")
    return clock.waits_ms


async def _keep_waiting(dispatcher: Dispatcher, catalog: Catalog) -> None:
    """Keep ``WAITING`` orders in the queue, for all models on this machine in turn."""
    models = [entry for entry in catalog if catalog.on_disk(entry)]
    turn = 0
    while True:
        while len(dispatcher) < WAITING:
            entry = models[turn % len(models)]
            request = ImageRequest(
                prompt="a red apple",
                model=entry.name,
                seed=turn,
                count=4,
                steps=round(entry.steps.high),
                guidance=entry.guidance.default,
                width=entry.width,
                height=entry.height,
            )
            dispatcher.submit(job_id=str(uuid.uuid4()), owner=f"waiting{turn % 50}", request=request)
            turn += 1
        await asyncio.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    waits = asyncio.run(measure(ORDERS))
    figures = {name: _figures(values) for name, values in waits.items()}
    for name, row in figures.items():
        print(f"{name:8} " + "  ".join(f"{key} {value:8.2f}" for key, value in row.items()))
    within = sum(wait <= LIMIT_MS for wait in waits["busy_ms"])
    print(f"{within} of {ORDERS} within {LIMIT_MS:g} ms while {WAITING} orders wait")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _figures(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "p99": ordered[max(0, round(len(ordered) * 0.99) - 1)],
        "max": ordered[-1],
    }


if __name__ == "__main__":
    main()
