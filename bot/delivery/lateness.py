"""What a card says in advance where the bot is a guest: only its token lets it edit there, and only for a while."""

from __future__ import annotations

import math
import time

from bot.delivery.delivery import TOKEN_MARGIN_S
from bot.store import Job
from bot.words import _
from inference.contract import Downloading, Standing, Waiting


def late_note(job: Job, event: Standing) -> str | None:
    """A note for people who will probably wait longer than that."""
    match event:
        case _ if job.place.member:
            return None
        case Downloading():
            eta_s = math.inf  # nobody knows how long
        case Waiting(eta_s=eta_s) if eta_s is not None:
            pass
        case _:
            return None
    if time.time() + eta_s < job.place.token_expires_at - TOKEN_MARGIN_S:
        return None
    return _(
        "This will take longer than Discord lets me edit this message. I will send you the pictures; you will also "
        "find them in `/history`."
    )
