"""What a server allows, and who chooses models where: the vocabulary of preferences, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Whose choice of a model it is; the first in this order that has made one decides."""

    CALL = "call"
    CHANNEL = "channel"
    USER = "user"
    SERVER = "server"
    CATALOGUE = "catalogue"


class ChannelModels(StrEnum):
    """Who may choose the model of a channel."""

    MODERATORS = "moderators"
    EVERYONE = "everyone"


class Explicit(StrEnum):
    """What happens to a picture that may be explicit, in a channel that is not age-restricted."""

    BLOCK = "block"
    SPOILER = "spoiler"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A server's own rules; None means the bot's own limit. ``largest_side`` is in pixels, ``waiting_limit`` counts
    one person's waiting orders."""

    hidden_models: frozenset[str] = frozenset()
    waiting_limit: int | None = None
    largest_side: int | None = None
    most_steps: int | None = None
    most_pictures: int | None = None
    channel_models: ChannelModels = ChannelModels.MODERATORS
    explicit: Explicit = Explicit.SPOILER
