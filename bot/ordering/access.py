"""Who may do what, and what may be shown where: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import discord

from bot.rules import ChannelModels, Explicit, Rules, Scope
from bot.store import Job
from bot.words import _
from inference.catalog.entries import ModelEntry
from inference.contract import ImageRequest


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """Something that this person may not have or do; the message is for them."""


def order_deleted() -> Refused:
    """For a press on a card whose order is gone."""
    return Refused(_("This order was deleted; there is nothing left to work with."))


def not_their_own() -> Refused:
    """For an attempt at something that only an order's author, or a moderator, may do with it."""
    return Refused(_("Only the person who ordered this, or a moderator, can do that."))


def not_used_here(title: str) -> Refused:
    """For a model that a server has hidden."""
    return Refused(
        _("“{model}” is not available on this server. `/model list` shows the models that are.", model=title)
    )


class Showing(Enum):
    """How pictures and their prompts are shown in a channel, from least to most strict."""

    PLAIN = auto()
    COVERED = auto()
    WITHHELD = auto()


class Judged(Protocol):
    """A picture, stored or not, with the verdict of a safety check; None without one."""

    @property
    def explicit(self) -> bool | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A person, and what they may do where they are."""

    user_id: int
    permissions: discord.Permissions


def is_author_or_moderator(job: Job, asker: Asker, *, guild_id: int | None) -> bool:
    """Whether this is the person's own order, or one of this server and they may manage messages here."""
    moderates = guild_id is not None and job.place.guild_id == guild_id and asker.permissions.manage_messages
    return job.user_id == asker.user_id or moderates


def require_author_or_moderator(job: Job, asker: Asker, *, guild_id: int | None) -> None:
    """Raise ``Refused`` unless the order is this person's or they may manage messages here."""
    if not is_author_or_moderator(job, asker, guild_id=guild_id):
        raise not_their_own()


def require_may_choose(scope: Scope, asker: Asker, rules: Rules, *, guild_id: int | None) -> None:
    """Raise ``Refused`` unless this person may choose a model for this scope."""
    if scope is Scope.USER:
        return
    if guild_id is None:
        raise Refused(
            _(
                "Here you can only choose a model for yourself; to choose one for a channel or a server, do it on that "
                "server."
            )
        )
    permissions = asker.permissions
    if scope is Scope.SERVER and not permissions.manage_guild:
        raise Refused(_("Choosing a server's model requires the Manage Server permission."))
    everyone = rules.channel_models is ChannelModels.EVERYONE
    if scope is Scope.CHANNEL and not (everyone or permissions.manage_channels):
        raise Refused(_("Choosing a channel's model requires the Manage Channels permission."))


def require_within(rules: Rules, request: ImageRequest, *, title: str) -> None:
    """Raise ``Refused``, saying what to change, if an order exceeds what a server allows; ``title`` is its model's."""
    largest = rules.largest_side
    if request.model in rules.hidden_models:
        raise not_used_here(title)
    if largest is not None and max(request.width, request.height) > largest:
        raise Refused(_("On this server no side may exceed {largest} pixels. Choose a smaller size.", largest=largest))
    if rules.most_steps is not None and request.steps > rules.most_steps:
        raise Refused(_("Ask for fewer steps: this server allows at most {most} per picture.", most=rules.most_steps))
    if rules.most_pictures is not None and request.count > rules.most_pictures:
        most = rules.most_pictures
        raise Refused(_("Ask for fewer pictures: this server allows at most {most} per order.", most=most))


def is_within(rules: Rules, request: ImageRequest) -> bool:
    """Whether a server allows an order; see ``require_within``."""
    try:
        require_within(rules, request, title=request.model)
    except Refused:
        return False
    return True


def showing(job: Job, pictures: Iterable[Judged], rules: Rules, entry: ModelEntry | None) -> Showing:
    """How a job's pictures are shown where they were ordered."""
    shown = showing_in(pictures, rules, entry, age_restricted=job.place.age_restricted)
    return Showing.COVERED if job.spoiler and shown is Showing.PLAIN else shown


def showing_in(pictures: Iterable[Judged], rules: Rules, entry: ModelEntry | None, *, age_restricted: bool) -> Showing:
    """How pictures of a model are shown in a channel.

    An unchecked picture counts as explicit, unless its model cannot draw such things.
    """
    harmless = entry is not None and entry.harmless
    explicit = any(picture.explicit or (picture.explicit is None and not harmless) for picture in pictures)
    if not explicit or age_restricted or rules.explicit is Explicit.ALLOW:
        return Showing.PLAIN
    return Showing.WITHHELD if rules.explicit is Explicit.BLOCK else Showing.COVERED


def showing_prompt(shown: Showing, pictures: Iterable[Judged]) -> Showing:
    """How the prompt is shown if its pictures are ``shown`` this way: covered only if one of them was found explicit,
    not if they are merely unchecked."""
    found = any(picture.explicit for picture in pictures)
    return shown if found or shown is not Showing.COVERED else Showing.PLAIN
