"""A simulated evening: a server full of people, the built-in model, a worker that is killed, a bot that starts anew.

Everything is real but Discord: client, SQLite, queue, worker process and weights. ``played`` lets the evening pass and
returns what is left of it, as data. The same people ask for the same pictures every time; which orders share a batch,
or are in hand when the worker dies, is up to the machine.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from simcord.actors import MemberActor

from bot import app
from bot.client import PictureBot
from bot.rules import Scope
from bot.settings import ROOT, Settings
from bot.store import Job, JobState, StoredPicture, open_store
from inference.catalog import Catalog
from inference.contract import MAX_SEED, Running
from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.queue import Entry, FairQueue
from inference.processes.handle import WorkerProcess, WorkerSpec, draw_for_parent
from tests.bot.studio import PATIENCE, Studio, text_of, until

WEIGHTS = ROOT / "models"
NATIVE = f'kind = "native"\nunet = {{ path = "{WEIGHTS}/emoji-lcm" }}\nguidance = {{ default = 3, low = 1, high = 5 }}'
LORA = f'kind = "lora"\nlcm_lora = {{ path = "{WEIGHTS}/emoji-lcm-lora/pytorch_lora_weights.safetensors" }}'
MODELS = {
    "emoji": NATIVE,
    "emoji-lora": LORA,
    "emoji-flat": LORA + "\nstyles = { flat = 1.0 }",
    "emoji-half-flat": LORA + "\nstyles = { flat = 0.5 }",
    "emoji-round": LORA + "\nstyles = { flat = -0.7 }",
}
"""What sets each of them apart, as the catalogue has it; every channel is named after its model."""
PEOPLE_IN_A_CHANNEL = 10
EAGER_IN_A_CHANNEL = 2
ORDERS_OF_THE_EAGER = 6
"""In every wave; all the others order one picture."""
AGAIN = (0, 12, 12, 13, 13)
"""How many orders of each wave are presses of “Same seed” under an earlier card."""
STILL_OPEN = 60
"""The next wave rolls in when no more orders than these are not done yet."""
SAME_FOR_ALL = ("a red apple", 7)
"""Prompt and seed of the first order in every channel."""
MAX_ROWS = 4
"""In a batch: the least that can be set, so that many turns are taken."""
MAX_PASSED_OVER = 2


# -- what people want --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One order. ``again`` is the number of the order whose card's “Same seed” is pressed instead of typing."""

    person: int
    channel: int
    prompt: str
    seed: int
    again: int | None = None


def wishes(rng: random.Random) -> list[list[Wish]]:
    """Every wave of orders; the eager ones come first, with all of theirs."""
    waves: list[list[Wish]] = []
    for again in AGAIN:
        earlier = [wish for wave in waves for wish in wave]
        fresh = [_fresh(rng, person) for person in _comers(rng)]
        drawn = [number for number, wish in enumerate(earlier) if wish.again is None and _is_done(number, wish, waves)]
        for number in rng.sample(range(len(fresh)), again):
            first = rng.choice(drawn)
            of = earlier[first]
            fresh[number] = Wish(
                person=fresh[number].person, channel=of.channel, prompt=of.prompt, seed=of.seed, again=first
            )
        waves.append(fresh if waves else _with_the_same_for_all(fresh))
    return waves


def _is_eager(person: int) -> bool:
    """Whether they always order several pictures at once."""
    return person % PEOPLE_IN_A_CHANNEL < EAGER_IN_A_CHANNEL


def _comers(rng: random.Random) -> list[int]:
    everybody = range(len(MODELS) * PEOPLE_IN_A_CHANNEL)
    eager = [person for person in everybody if _is_eager(person)]
    others = [person for person in everybody if not _is_eager(person)]
    rng.shuffle(eager)
    rng.shuffle(others)
    return [person for person in eager for _ in range(ORDERS_OF_THE_EAGER)] + others


def _fresh(rng: random.Random, person: int) -> Wish:
    colour = rng.choice(["red", "green", "blue", "yellow", "brown"])
    thing = rng.choice(["apple", "pear", "owl", "fox", "rocket", "house", "hamburger", "hat", "car", "fish"])
    return Wish(
        person=person,
        channel=person // PEOPLE_IN_A_CHANNEL,
        prompt=f"a {colour} {thing}",
        seed=rng.randint(0, MAX_SEED),
    )


def _is_done(number: int, wish: Wish, waves: list[list[Wish]]) -> bool:
    """Whether it is drawn when the next wave rolls in, or soon: of the last wave, what came first of each person."""
    return number < sum(map(len, waves[:-1])) or not _is_eager(wish.person)


def _with_the_same_for_all(wave: list[Wish]) -> list[Wish]:
    prompt, seed = SAME_FOR_ALL
    firsts = {wish.channel: wish for wish in reversed(wave)}.values()
    return [
        Wish(person=wish.person, channel=wish.channel, prompt=prompt, seed=seed) if wish in firsts else wish
        for wish in wave
    ]


# -- what the queue did ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """An order in the queue."""

    job_id: str
    owner: str
    model: str


@dataclass(frozen=True, slots=True)
class Came:
    """An order was put in line."""

    order: Order


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch went to the worker, its leader first. ``resident`` are the models that the worker had in memory;
    ``overtaken`` is how often the one of them was that it happened to most."""

    orders: tuple[Order, ...]
    resident: frozenset[str]
    overtaken: int


@dataclass(frozen=True, slots=True)
class Returned:
    """The worker died with this order in hand; it goes once more, before all others."""

    order: Order


Event: TypeAlias = Came | Sent | Returned


class Diary(FairQueue):
    """The queue, writing down what happens in it."""

    def __init__(self, **limits: int) -> None:
        super().__init__(**limits)
        self.events: list[Event] = []

    def add(self, entry: Entry, *, now: float = 0.0) -> None:
        super().add(entry, now=now)
        self.events.append(Came(_order(entry)))

    def take(
        self, resident: frozenset[str] = frozenset(), elsewhere: frozenset[str] = frozenset()
    ) -> tuple[Entry, ...]:
        batch = super().take(resident, elsewhere)
        if batch:
            overtaken = max(entry.passed_over for entry in batch)
            self.events.append(Sent(tuple(map(_order, batch)), resident, overtaken))
        return batch

    def give_back(self, entry: Entry) -> None:
        super().give_back(entry)
        self.events.append(Returned(_order(entry)))

    @property
    def returned(self) -> int:
        """How many orders a dead worker has given back so far."""
        return sum(isinstance(event, Returned) for event in self.events)


def _order(entry: Entry) -> Order:
    return Order(entry.job_id, entry.owner, entry.request.model)


# -- the evening itself ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What hangs in a channel for one order when all is over; ``shown`` counts the edits that brought pictures."""

    channel_id: int
    text: str
    files: tuple[bytes, ...]
    shown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evening:
    """What is left of it. ``wishes``, ``cards`` and ``jobs`` have the same order; where a wish has no job is None.

    ``files`` are those of the pictures' folder, ``messages`` all that hang in the channels, ``elsewhere`` the edits
    that brought pictures to what is nobody's card. ``diaries`` holds the queue's events, once for each start of the
    bot; ``deaths`` how many orders were in hand at each death of the worker; ``unsure`` the jobs that were drawn when
    the bot ended, and perhaps shown already.
    """

    wishes: tuple[Wish, ...]
    channel_ids: tuple[int, ...]
    cards: tuple[Card, ...]
    jobs: tuple[Job | None, ...]
    all_jobs: tuple[Job, ...]
    pictures: dict[str, list[StoredPicture]]
    files: frozenset[str]
    messages: int
    elsewhere: int
    diaries: tuple[tuple[Event, ...], ...]
    deaths: tuple[int, ...]
    unsure: frozenset[str]
    requests: tuple[Any, ...]


class FullHouse(Studio):
    """A studio with five channels and fifty people, that keeps a diary of its queue."""

    worker: WorkerProcess
    diary: Diary

    def _compose(self) -> tuple[PictureBot, Dispatcher]:
        """The bot's own worker lets other processes go first; this one does not, to keep up beside busy ones."""
        spec = WorkerSpec(
            catalog_path=self.settings.catalog, pictures_dir=self.settings.pictures_dir, device="cpu", nice=0
        )
        self.worker = WorkerProcess(spec=spec, main=self._painter_main)
        self.diary = Diary(
            limit=self.settings.queue_limit,
            limit_per_owner=self.settings.queue_limit_per_user,
            max_rows=MAX_ROWS,
            max_passed_over=MAX_PASSED_OVER,
        )
        dispatcher = Dispatcher(workers=[self.worker], queue=self.diary, patience=PATIENCE)
        return app.make_bot(self.settings, self.store, self.catalog, dispatcher), dispatcher

    def _furnish(self) -> None:
        self.env.settle_timeout = 60.0  # a busy machine may need more than five seconds to acknowledge
        guild = self.env.create_guild("Evening")
        self.channels = [guild.create_text_channel(name) for name in MODELS]
        people = range(len(MODELS) * PEOPLE_IN_A_CHANNEL)
        self.people: list[MemberActor] = [guild.add_member(self.env.create_user(f"guest-{n}")) for n in people]
        self.responses: list[Any] = []
        self.deaths: list[int] = []

    async def order(self, wish: Wish) -> None:
        """Type it, or press the button under an earlier card once its picture is there."""
        person = self.people[wish.person]
        if wish.again is None:
            channel = self.channels[wish.channel]
            result = await person.slash(channel, "imagine", prompt=wish.prompt, seed=wish.seed)
            self.responses.append(result.response)
            return
        first = self.responses[wish.again]
        await until(lambda: bool(first.attachments), self._open_orders)
        result = await person.click(first.message, label="Same seed")
        self.responses.append(result.followups[-1])

    async def open_orders(self, most: int) -> None:
        """Wait until no more orders than these are open."""
        await until(lambda: len(self.dispatcher.standing()) <= most, self._open_orders)

    async def kill_the_worker(self) -> None:
        """While it has work in hand. One that was done with all of it in that very moment is followed by the next."""
        before = self.diary.returned
        while self.diary.returned == before:
            await until(self._is_drawing, self._open_orders)
            pid = self.worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: self.worker.pid not in (None, pid), self._open_orders)  # type: ignore[misc]
        self.deaths.append(self.diary.returned - before)

    def _is_drawing(self) -> bool:
        return any(isinstance(event, Running) for event in self.dispatcher.standing().values())

    def _open_orders(self) -> str:
        standing = Counter(type(event).__name__ for event in self.dispatcher.standing().values())
        return f"of {len(self.responses)} orders are open: {dict(standing)}; the worker's process is {self.worker.pid}"


async def played(folder: Path) -> Evening:
    """Let the evening pass."""
    settings = Settings(
        discord_token="token",
        data_dir=folder / "data",
        catalog=_catalogue(folder),
        queue_limit=500,
        queue_limit_per_user=50,
        queue_limit_per_server=500,
    )
    settings.pictures_dir.mkdir(parents=True)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        house = FullHouse(
            settings=settings, store=store, catalog=Catalog.load(settings.catalog), painter_main=draw_for_parent
        )
        async with house.opened():
            return await _play(house)


async def _play(house: FullHouse) -> Evening:
    for channel, model in zip(house.channels, MODELS, strict=True):
        await house.store.preferences.choose_model(Scope.CHANNEL, channel.id, model, chosen_by=house.people[0].id)
    waves = wishes(random.Random(1983))
    diaries: list[tuple[Event, ...]] = []
    unsure: frozenset[str] = frozenset()
    for number, wave in enumerate(waves):
        for wish in wave:
            await house.order(wish)
        last = number == len(waves) - 1
        await house.open_orders(0 if last else STILL_OPEN)
        if number == len(waves) // 2:
            await house.stop()
            diaries.append(tuple(house.diary.events))
            unsure = frozenset(j.id for j in await house.jobs() if j.state is JobState.DONE and j.delivered_at is None)
            await house.restart()
        elif not last:
            await house.kill_the_worker()
    await house.all_delivered()
    await app.remove_strangers(house.settings, house.store, set())
    diaries.append(tuple(house.diary.events))
    return await _left_over(house, [wish for wave in waves for wish in wave], diaries, unsure)


async def _left_over(
    house: FullHouse, wished: list[Wish], diaries: list[tuple[Event, ...]], unsure: frozenset[str]
) -> Evening:
    shown = Counter(
        int(call.path.rpartition("/")[2])
        for call in house.env.http_requests
        if call.method == "PATCH" and (call.json or {}).get("attachments")
    )
    cards = []
    for response in house.responses:
        message = response.message
        files = [await attachment.read() for attachment in message.attachments]
        card = Card(
            channel_id=message.channel.id, text=text_of(message), files=tuple(files), shown=shown.pop(message.id, 0)
        )
        cards.append(card)
    jobs = await house.jobs()
    by_message = {job.place.message_id: job for job in jobs}
    return Evening(
        wishes=tuple(wished),
        channel_ids=tuple(channel.id for channel in house.channels),
        cards=tuple(cards),
        jobs=tuple(by_message.get(response.id) for response in house.responses),
        all_jobs=tuple(jobs),
        pictures={job.id: await house.store.jobs.pictures(job.id) for job in jobs},
        files=frozenset(path.stem for path in house.settings.pictures_dir.iterdir()),
        messages=sum(len(channel.history()) for channel in house.channels),
        elsewhere=shown.total(),
        diaries=tuple(diaries),
        deaths=tuple(house.deaths),
        unsure=unsure,
        requests=tuple(house.env.http_requests),
    )


def _catalogue(folder: Path) -> Path:
    """The built-in weights as five models, at the smallest that they can do."""
    blocks = [
        'default = "emoji"',
        f'[adapters.flat]\nfamily = "emoji"\nweights = {{ path = "{WEIGHTS}/loras/emoji-flat.safetensors" }}',
    ]
    for name, own in MODELS.items():
        smallest = "size = [64, 64]\nsides = [64, 64]\nsteps = { default = 2, low = 1, high = 2 }"
        weights = f'weights = {{ path = "{WEIGHTS}/emoji" }}'
        blocks.append(f'[models.{name}]\nfamily = "emoji"\nharmless = true\n{weights}\n{own}\n{smallest}')
    path = folder / "models.toml"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return path
