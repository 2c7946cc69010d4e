"""All that the bot holds about a person as ZIP files of bounded size: which file goes where, and how it is written."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bot.delivery.attachments import attachment
from bot.delivery.gallery import Gallery
from bot.store import Job, Person, StoredPicture
from bot.store.records import to_row

WORDS_CHARACTERS = 40
"""Maximum length of the prompt in a file's name."""
ROOM_BYTES = 2048
"""What a file costs in a ZIP beside its content, with a large margin: its name is in there twice."""
SECRET = ("token", "token_expires_at")
"""Credentials for the bot's own messages, valid for minutes: nobody's data."""
TIMES = ("created_at", "delivered_at")
IDS = ("user_id", "guild_id", "channel_id", "message_id", "application_id")
"""Written as text: they have more digits than many JSON readers keep of a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file to be written: ``content`` as it is, or else the picture at ``path``."""

    name: str
    size: int
    content: bytes = b""
    path: Path | None = None


def plan(person: Person, gallery: Gallery, *, limit: int) -> list[list[Item]]:
    """Everything about ``person`` in parts, each at most ``limit`` bytes once it is written. Blocks.

    The same person's parts stay the same as long as nothing new is drawn.
    """
    room = limit - ROOM_BYTES
    pictures = list(_pictures(person, gallery, room=room))
    names = {picture.id: item.name for picture, item in pictures}
    return list(_parts([*_documents(person, names, room=room), *(item for _picture, item in pictures)], room=room))


def write(items: Iterable[Item], file: IO[bytes], *, limit: int) -> None:
    """Write one part. A picture that exceeds ``limit`` by itself takes its least lossy form that fits. Blocks."""
    with zipfile.ZipFile(file, "w") as archive:  # stored uncompressed: a PNG does not get any smaller
        for item in items:
            if item.path is None:
                archive.writestr(item.name, item.content, compress_type=zipfile.ZIP_DEFLATED)
            elif item.path.exists():  # it may have been deleted since
                archive.writestr(item.name, attachment(item.path, limit=limit - ROOM_BYTES).content)


def _parts(items: Iterable[Item], *, room: int) -> Iterator[list[Item]]:
    part: list[Item] = []
    left = room
    for item in items:
        cost = item.size + ROOM_BYTES
        if part and cost > left:
            yield part
            part, left = [], room
        part.append(item)
        left -= cost
    if part:
        yield part


def _pictures(person: Person, gallery: Gallery, *, room: int) -> Iterator[tuple[StoredPicture, Item]]:
    """The pictures that are still on this machine, with a name for each."""
    jobs = {job.id: job for job in person.jobs}
    taken: set[str] = set()
    for picture in person.pictures:
        path = gallery.path(picture.id)
        if path.exists():
            size = path.stat().st_size
            name = _unique(_name(jobs[picture.job_id], picture), taken)
            yield picture, Item(name=name + (".png" if size <= room else ".webp"), size=min(size, room), path=path)


def _name(job: Job, picture: StoredPicture) -> str:
    words = re.sub(r"[\W_]+", "-", job.request.prompt)[:WORDS_CHARACTERS].strip("-")
    return f"{_time(job.created_at)[:10]}-{picture.seed}-{words or 'picture'}"


def _unique(name: str, taken: set[str]) -> str:
    """``name``, with a number if another file has it; some file systems do not tell A from a."""
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found.casefold())
    return found


def _documents(person: Person, names: dict[str, str], *, room: int) -> Iterator[Item]:
    """``data.json``; for somebody with very many orders the later ones are in ``data-2.json`` and so on."""
    own = {job.id for job in person.jobs}
    orders = [_order(job, own, pictures, names) for job, pictures in _drawn(person)]
    for number, chunk in enumerate(_chunks(orders, room=room // 2), start=1):
        content = _json({**_about(person), "orders": chunk} if number == 1 else {"orders": chunk})
        yield Item(name="data.json" if number == 1 else f"data-{number}.json", size=len(content), content=content)


def _drawn(person: Person) -> Iterator[tuple[Job, Sequence[StoredPicture]]]:
    by_job: dict[str, list[StoredPicture]] = {}
    for picture in person.pictures:
        by_job.setdefault(picture.job_id, []).append(picture)
    for job in person.jobs:
        yield job, by_job.get(job.id, [])


def _about(person: Person) -> dict[str, Any]:
    return {
        "user_id": str(person.user_id),
        "locked_seed": person.locked_seed,
        "posted_again": [
            {"channel_id": str(place.channel_id), "message_id": str(place.message_id)} for place in person.reposts
        ],
        "seed_book": [{**asdict(seed), "saved_at": _time(seed.saved_at)} for seed in person.seeds],
        "chosen_models": [
            {**asdict(choice), "scope_id": str(choice.scope_id), "chosen_at": _time(choice.chosen_at)}
            for choice in person.choices
        ],
    }


def _order(job: Job, own: set[str], pictures: Sequence[StoredPicture], names: dict[str, str]) -> dict[str, Any]:
    """A row as people can read it, without the id of somebody else's order that this one came from."""
    row = {key: value for key, value in to_row(job).items() if key not in SECRET}
    row |= {key: _time(row[key]) for key in TIMES if row[key] is not None}
    row |= {key: str(row[key]) for key in IDS if row[key] is not None}
    row |= {"adapters": [asdict(adapter) for adapter in job.request.adapters]}
    row |= {"parent_id": job.parent_id if job.parent_id in own else None}
    return row | {"pictures": [{**asdict(picture), "file": names.get(picture.id)} for picture in pictures]}


def _chunks(orders: Sequence[dict[str, Any]], *, room: int) -> Iterator[list[dict[str, Any]]]:
    """At least one chunk, even without orders."""
    chunk: list[dict[str, Any]] = []
    left = room
    for order in orders:
        cost = len(_json(order))
        if chunk and cost > left:
            yield chunk
            chunk, left = [], room
        chunk.append(order)
        left -= cost
    yield chunk


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
