"""What a job and a picture are in memory, and how they are stored in a row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import aiosqlite

from inference.contract import ALL_READ, Adapter, ImageRequest, Unread, Variation


class JobState(StrEnum):
    """A job's state. Whether its end was shown is separate: ``Job.delivered_at``."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Origin(StrEnum):
    """How an order came about."""

    IMAGINE = "imagine"
    REROLL = "reroll"
    SAME_SEED = "same_seed"
    OTHER_MODEL = "other_model"
    REMIX = "remix"
    COMPARE = "compare"
    EDIT = "edit"
    VARIATION = "variation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the card of a job lives, and by what right it can be edited.

    ``token`` is the interaction's, good until ``token_expires_at`` (Unix seconds). ``attachment_size_limit`` is in
    bytes per file. ``member``: the bot is a member there, so it can edit without a token. ``locale`` is that of the
    person who ordered.
    """

    guild_id: int | None
    channel_id: int
    message_id: int | None
    application_id: int
    token: str | None
    token_expires_at: float
    attachment_size_limit: int
    locale: str = "en-US"
    member: bool = True
    age_restricted: bool = False

    @property
    def community(self) -> str | None:
        """The server that an order counts for, None outside of servers."""
        return None if self.guild_id is None else str(self.guild_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One order. ``failure`` is worded for people; times are Unix seconds, ``seconds`` is what drawing took.

    Orders with one ``comparison_id`` share a card. ``spoiler``: its pictures are to be covered. ``seed_locked``: the
    seed is the person's locked one. ``missed``: there was no way to show its end. ``attempts``: how many workers have
    had it in hand.
    """

    id: str
    state: JobState
    origin: Origin
    parent_id: str | None
    user_id: int
    place: Place
    request: ImageRequest
    created_at: float
    failure: str | None = None
    seconds: float | None = None
    delivered_at: float | None = None
    spoiler: bool = False
    seed_locked: bool = False
    missed: bool = False
    comparison_id: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A picture of a job; its file is ``<id>.png``. ``index`` counts from 0; ``explicit`` is the verdict of a safety
    check, None without one; ``unread`` is what the model did not read of the prompts; ``variation_seed`` is None if the
    order was not a variation."""

    id: str
    job_id: str
    index: int
    seed: int
    width: int
    height: int
    bucket: int
    guided_bucket: int
    pixels_sha256: str
    bytes: int
    explicit: bool | None = None
    unread: Unread = ALL_READ
    variation_seed: int | None = None


def to_row(job: Job) -> dict[str, Any]:
    place, request = job.place, job.request
    return {
        "id": job.id,
        "state": job.state.value,
        "origin": job.origin.value,
        "parent_id": job.parent_id,
        "user_id": job.user_id,
        "guild_id": place.guild_id,
        "channel_id": place.channel_id,
        "message_id": place.message_id,
        "application_id": place.application_id,
        "token": place.token,
        "token_expires_at": place.token_expires_at,
        "attachment_size_limit": place.attachment_size_limit,
        "locale": place.locale,
        "member": place.member,
        "age_restricted": place.age_restricted,
        "prompt": request.prompt,
        "negative": request.negative,
        "model": request.model,
        "adapters": _adapters_to_json(request.adapters),
        "seed": request.seed,
        "count": request.count,
        "steps": request.steps,
        "guidance": request.guidance,
        "width": request.width,
        "height": request.height,
        "bucket": request.bucket,
        "guided_bucket": request.guided_bucket,
        "variation_seed": request.variation.seed if request.variation else None,
        "variation_strength": request.variation.strength if request.variation else None,
        "failure": job.failure,
        "seconds": job.seconds,
        "created_at": job.created_at,
        "delivered_at": job.delivered_at,
        "spoiler": job.spoiler,
        "seed_locked": job.seed_locked,
        "missed": job.missed,
        "comparison_id": job.comparison_id,
        "attempts": job.attempts,
    }


def job_from(row: aiosqlite.Row) -> Job:
    return Job(
        id=row["id"],
        state=JobState(row["state"]),
        origin=Origin(row["origin"]),
        parent_id=row["parent_id"],
        user_id=row["user_id"],
        place=replace(
            place_from(row),
            attachment_size_limit=row["attachment_size_limit"],
            locale=row["locale"],
            age_restricted=bool(row["age_restricted"]),
        ),
        request=ImageRequest(
            prompt=row["prompt"],
            negative=row["negative"],
            model=row["model"],
            adapters=tuple(Adapter(name=name, strength=strength) for name, strength in json.loads(row["adapters"])),
            seed=row["seed"],
            count=row["count"],
            steps=row["steps"],
            guidance=row["guidance"],
            width=row["width"],
            height=row["height"],
            bucket=row["bucket"],
            guided_bucket=row["guided_bucket"],
            variation=_variation_from(row),
        ),
        created_at=row["created_at"],
        failure=row["failure"],
        seconds=row["seconds"],
        delivered_at=row["delivered_at"],
        spoiler=bool(row["spoiler"]),
        seed_locked=bool(row["seed_locked"]),
        missed=bool(row["missed"]),
        comparison_id=row["comparison_id"],
        attempts=row["attempts"],
    )


def place_from(row: aiosqlite.Row) -> Place:
    """Where a message is, and by what right it can be reached; not what could be added to it."""
    return Place(
        guild_id=row["guild_id"],
        channel_id=row["channel_id"],
        message_id=row["message_id"],
        application_id=row["application_id"],
        token=row["token"],
        token_expires_at=row["token_expires_at"],
        attachment_size_limit=0,
        member=bool(row["member"]),
    )


def _variation_from(row: aiosqlite.Row) -> Variation | None:
    seed, strength = row["variation_seed"], row["variation_strength"]
    return None if seed is None else Variation(seed=seed, strength=strength)


def picture_from(row: aiosqlite.Row) -> StoredPicture:
    return StoredPicture(
        id=row["id"],
        job_id=row["job_id"],
        index=row["position"],
        seed=row["seed"],
        width=row["width"],
        height=row["height"],
        bucket=row["bucket"],
        guided_bucket=row["guided_bucket"],
        pixels_sha256=row["pixels_sha256"],
        bytes=row["bytes"],
        explicit=None if row["explicit"] is None else bool(row["explicit"]),
        unread=Unread(prompt=row["unread"], negative=row["unread_negative"]),
        variation_seed=row["variation_seed"],
    )


def _adapters_to_json(adapters: Iterable[Adapter]) -> str:
    return json.dumps([[adapter.name, adapter.strength] for adapter in adapters])
