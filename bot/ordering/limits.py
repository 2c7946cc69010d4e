"""How many orders one person and one server may have waiting, and how soon one may order again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from bot.ordering.access import Refused
from bot.rules import Rules
from bot.words import _
from inference.dispatch.dispatcher import Dispatcher
from inference.errors import InferenceError


class Limits:
    """Checks whether there is room for another order, before anything is promised.

    ``cooldown_s``: seconds between two orders of one person. ``server_limit``: orders that one server may have waiting.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        cooldown_s: float,
        server_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._cooldown_s = cooldown_s
        self._server_limit = server_limit
        self._clock = clock
        self._last: dict[int, float] = {}

    def check(self, user_id: int, guild_id: int | None, rules: Rules, *, orders: int = 1) -> None:
        """Raise ``Refused`` or ``InferenceError``, saying when to come back and what to change.

        Of several ``orders`` at once the last one must still have room.
        """
        self._check(user_id, guild_id, rules, orders=1)
        if orders == 1:
            return
        most = self._most(guild_id, rules)
        if orders > most:
            raise Refused(
                _(
                    "{orders} orders at once are too many: at most {most} may be waiting here. Compare fewer.",
                    orders=orders,
                    most=most,
                )
            )
        try:
            self._check(user_id, guild_id, rules, orders=orders)
        except (Refused, InferenceError):
            raise Refused(
                _(
                    "There is no room for {orders} orders at once. Compare fewer, or try again {when}.",
                    orders=orders,
                    when=self._when(),
                )
            ) from None

    def _most(self, guild_id: int | None, rules: Rules) -> int:
        """How many orders one person may have waiting if nobody else waits."""
        limits = (self._dispatcher.most_waiting, rules.waiting_limit, guild_id and self._server_limit)
        return min(limit for limit in limits if limit is not None)

    def _check(self, user_id: int, guild_id: int | None, rules: Rules, *, orders: int) -> None:
        self.check_pause(user_id)
        limit = rules.waiting_limit
        if limit is not None and self._dispatcher.waiting_for(str(user_id)) + orders > limit:
            raise Refused(
                _(
                    "You have reached this server's limit of waiting orders per person ({limit}). "
                    "Try again {when}, or `/cancel` one.",
                    limit=limit,
                    when=self._when(),
                )
            )
        if guild_id is not None and self._dispatcher.waiting_in(str(guild_id)) + orders > self._server_limit:
            raise Refused(
                _(
                    "This server has reached its limit of waiting orders ({limit}). Try again {when}.",
                    limit=self._server_limit,
                    when=self._when(),
                )
            )
        self._dispatcher.check_room(str(user_id), orders=orders)

    def check_pause(self, user_id: int) -> None:
        """Raise ``Refused`` if this person ordered just now."""
        left_s = self._last.get(user_id, -math.inf) + self._cooldown_s - self._clock()
        if left_s > 0:
            raise Refused(_("Please wait {seconds} s before your next order.", seconds=math.ceil(left_s)))

    def ordered(self, user_id: int) -> None:
        """Note that a person has just ordered."""
        now = self._clock()
        self._last[user_id] = now
        for person in [person for person, at in self._last.items() if at + self._cooldown_s < now]:
            del self._last[person]

    def _when(self) -> str:
        seconds = self._dispatcher.seconds_until_room()
        return _("in a few minutes") if seconds is None else _("in about {seconds} s", seconds=max(1, round(seconds)))
