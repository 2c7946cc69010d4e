"""The composition root: builds every part, gives each its collaborators, and runs them until told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sqlite3
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.request import getproxies, proxy_bypass

import discord

from bot.background import Background
from bot.client import PictureBot
from bot.delivery.delivery import Delivery
from bot.delivery.endings import Endings
from bot.delivery.following import Follower
from bot.delivery.gallery import Gallery
from bot.features.choosing import Choosing
from bot.features.examples import Examples
from bot.features.history import History
from bot.features.house import House
from bot.features.line import Line
from bot.features.models import Models
from bot.features.privacy import Privacy
from bot.features.recipes import Recipes
from bot.features.seedbook import SeedBook
from bot.generate import Generator
from bot.ordering.limits import Limits
from bot.preview import PreviewError, preview
from bot.settings import ROOT, Settings
from bot.store import DatabaseError, Store, open_store
from bot.store.database import remove_copies
from inference.catalog import Catalog, CatalogError
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import FairQueue
from inference.dispatch.stations import Patience
from inference.errors import UNDRIVEABLE, InferenceError, describe
from inference.hub.fetching import Fetching
from inference.processes.handle import WorkerGone, WorkerProcess, WorkerSpec

log = logging.getLogger("bot.app")

COPIES_DAYS = 14
"""How long copies of the database from before upgrades are kept."""
DAY_S = 24 * 60 * 60.0


class StartError(Exception):
    """The bot cannot start; the message says why and what to do."""


async def run(settings: Settings) -> None:
    """Run the bot until it is told to stop; raises ``StartError``."""
    _stop_on_terminate()
    try:
        async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
            await _run(settings, store, Catalog.load(settings.catalog))
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise StartError(reason) from error


def _reason(error: BaseException) -> str | None:
    """What the people who run the bot have to fix, whichever of its tasks raised it; None if it is a bug."""
    match error:
        case BaseExceptionGroup():
            return next(filter(None, map(_reason, error.exceptions)), None)
        case DatabaseError() | CatalogError() | PreviewError() | StartError():
            return str(error)
        case InferenceError(failure=failure) if isinstance(failure, UNDRIVEABLE):
            return describe(failure)
        case discord.LoginFailure() | discord.ConnectionClosed(code=4004):
            return "Discord does not accept DISCORD_TOKEN. Copy the bot's token again, or unset it for a local preview."
        case _:
            return None


async def _run(settings: Settings, store: Store, catalog: Catalog) -> None:
    workers = make_workers(settings)
    if settings.requires_check:
        await require_checkers(catalog, workers[0])
    dispatcher = make_dispatcher(settings, catalog, workers)
    bot = make_bot(settings, store, catalog, dispatcher)
    await remove_strangers(settings, store, bot.models.examples.known())
    bot.background.begin("removing old pictures", remove_old, settings, bot.models.examples.known())
    if settings.discord_token is None:
        await store.jobs.forget_cards()  # the preview's channel starts empty
    await bot.follower.resume()
    gc.collect()
    gc.freeze()  # what is here stays: looking through it takes 35 ms, and nobody is answered meanwhile
    await _meet_people(settings, bot, dispatcher)


async def _meet_people(settings: Settings, bot: PictureBot, dispatcher: Dispatcher) -> None:
    """On Discord, or in the preview if there is no token."""
    if settings.discord_token is None:
        async with preview(bot, port=settings.preview_port) as page:
            say = f"No DISCORD_TOKEN is set, so this is the local preview: {page.url}"
            print(say, flush=True)  # noqa: T201
            await _work(bot, dispatcher, page.closed())
    else:
        async with bot:
            await bot.log_in(settings.discord_token)
            await _work(bot, dispatcher, bot.connect())


async def _work(bot: PictureBot, dispatcher: Dispatcher, until: Coroutine[Any, Any, None]) -> None:
    """Draw and deliver until ``until`` ends. If drawing or following dies, everything does, and what was being drawn
    may be to blame; if this ends in any other way, no order is."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(dispatcher.run(), name="drawing"),
            group.create_task(bot.background.run(), name="background"),
        ]
        try:
            await until
        finally:
            has_died = any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()  # from here on nothing begins
            if not has_died:
                await _absolve(bot.store)


async def _absolve(store: Store) -> None:
    """Record that no order is to blame, before the workers have ended: whoever stops the bot may not wait for them."""
    try:
        await store.jobs.interrupted()
    except sqlite3.OperationalError as error:  # must not hide why the bot ends
        log.warning("orders that were being drawn count as attempted: %s", error)


async def require_checkers(catalog: Catalog, worker: WorkerProcess) -> None:
    """Raise ``StartError`` if the pictures of a model on this machine should be checked but cannot be.

    Only the worker can tell whether a checker is sound, so it is started early if any checker is needed.
    """
    entries = await asyncio.to_thread(catalog.to_be_checked)
    for missing in filter(None, map(catalog.missing_checker, entries)):
        raise StartError(describe(missing))
    if not entries:
        return
    try:
        ready = await worker.start()
    except WorkerGone as gone:
        if isinstance(gone.failure, UNDRIVEABLE):
            raise StartError(describe(gone.failure)) from gone
        # the dispatcher tries again, and tells people who order
        log.warning("worker lost: %s", describe(gone.failure))
        return
    for failure in ready.unchecked:
        await worker.stop()
        raise StartError(describe(failure))


def make_workers(settings: Settings) -> list[WorkerProcess]:
    """One worker for each named device, not yet started."""
    return [_hire(settings, name) for name in settings.device_names]


def make_dispatcher(settings: Settings, catalog: Catalog, workers: Sequence[WorkerProcess] | None = None) -> Dispatcher:
    """The queue with its ``workers``, by default those of the settings, and what downloads models; not yet started."""
    queue = FairQueue(
        limit=settings.queue_limit,
        limit_per_owner=settings.queue_limit_per_user,
        max_rows=settings.max_batch,
        max_passed_over=settings.max_overtakings,
    )
    patience = Patience(load_timeout_s=settings.load_timeout_s, step_timeout_s=settings.step_timeout_s)

    fetching = Fetching(
        catalog=catalog,
        catalog_path=settings.catalog,
        allowed=settings.downloads,
        checked=settings.requires_check,
        log_level=settings.log_level,
    )
    return Dispatcher(
        workers=workers or make_workers(settings),
        queue=queue,
        patience=patience,
        hire=partial(_hire, settings),
        fetching=fetching,
        batch_wait_s=settings.batch_wait_ms / 1000,
        discard=Gallery(settings.pictures_dir).discard,
    )


def _hire(settings: Settings, device: str) -> WorkerProcess:
    spec = WorkerSpec(
        catalog_path=settings.catalog,
        pictures_dir=settings.pictures_dir,
        device=device,
        precision=settings.precision,
        budgets=settings.budgets,
        safety_check=settings.requires_check,
        compile=settings.compile,
        log_level=settings.log_level,
    )
    return WorkerProcess(spec=spec)


def make_bot(settings: Settings, store: Store, catalog: Catalog, dispatcher: Dispatcher) -> PictureBot:
    """The Discord client with everything that works through it."""
    is_preview = settings.discord_token is None
    bot = PictureBot(
        store=store, catalog=catalog, always_sync=is_preview, proxy=None if is_preview else proxy_to("discord.com")
    )
    gallery = Gallery(settings.pictures_dir)
    delivery = Delivery(client=bot)
    endings = Endings(
        catalog=catalog,
        jobs=store.jobs,
        preferences=store.preferences,
        gallery=gallery,
        delivery=delivery,
        standing=dispatcher.standing,
    )
    bot.background = Background()
    bot.delivery = delivery
    bot.endings = endings
    bot.dispatcher = dispatcher
    bot.follower = Follower(
        jobs=store.jobs,
        dispatcher=dispatcher,
        delivery=delivery,
        endings=endings,
        gallery=gallery,
        background=bot.background,
    )
    limits = Limits(dispatcher=dispatcher, cooldown_s=settings.cooldown_s, server_limit=settings.queue_limit_per_server)
    bot.generator = Generator(
        catalog=catalog,
        jobs=store.jobs,
        preferences=store.preferences,
        dispatcher=dispatcher,
        limits=limits,
        follower=bot.follower,
        gallery=gallery,
    )
    bot.history = History(jobs=store.jobs, gallery=gallery, endings=endings, limits=limits)
    bot.house = House(catalog=catalog, preferences=store.preferences)
    bot.line = Line(catalog=catalog, jobs=store.jobs, dispatcher=dispatcher)
    bot.seed_book = SeedBook(seeds=store.seeds, preferences=store.preferences, jobs=store.jobs)
    bot.choosing = Choosing(catalog=catalog, preferences=store.preferences, dispatcher=dispatcher)
    bot.models = Models(
        catalog=catalog,
        preferences=store.preferences,
        dispatcher=dispatcher,
        examples=Examples(
            catalog=catalog, dispatcher=dispatcher, gallery=gallery, store=store, background=bot.background
        ),
        background=bot.background,
    )
    bot.recipes = Recipes(jobs=store.jobs, catalog=catalog)
    bot.privacy = Privacy(
        people=store.people,
        jobs=store.jobs,
        gallery=gallery,
        dispatcher=dispatcher,
        delivery=delivery,
        background=bot.background,
    )
    return bot


def proxy_to(host: str) -> str | None:
    """The proxy that the environment or the system sets: discord.py looks at neither."""
    return None if proxy_bypass(host) else getproxies().get("https")


async def remove_strangers(settings: Settings, store: Store, examples: set[str]) -> None:
    """Remove files that no job and no model knows, as left by a bot that was killed while saving or deleting."""
    gallery = Gallery(settings.pictures_dir)
    await gallery.remove_unwanted(store.jobs)
    known = await store.jobs.picture_ids() | examples
    swept = await gallery.sweep(known, since=await store.made_at())
    if swept.removed:
        log.info("removed %d files that belong to no picture", swept.removed)
    if swept.kept:
        log.warning(
            "%d pictures in %s are unknown to %s; they are kept. If it has replaced another database, put "
            "that one back; if not, and nobody needs the pictures, delete them.",
            swept.kept,
            settings.pictures_dir,
            settings.database_path,
        )


async def remove_old(settings: Settings, examples: set[str]) -> None:
    """Remove pictures older than they are to be kept, and old copies of the database from before upgrades, now and
    every day; the models' examples stay."""
    gallery = Gallery(settings.pictures_dir)
    days = settings.keep_pictures_days
    while True:
        gone = await gallery.remove_older(time.time() - days * DAY_S, but=examples) if days else 0
        if gone:
            log.info("removed %d pictures that are older than %g days", gone, days)
        try:
            remove_copies(settings.database_path, older_than=time.time() - COPIES_DAYS * DAY_S)
        except OSError as error:
            log.warning("copies of the database from before upgrades cannot be removed; next try tomorrow: %s", error)
        await asyncio.sleep(DAY_S)


def _stop_on_terminate() -> None:
    """Treat the service manager's SIGTERM as Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows has no such signal
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
