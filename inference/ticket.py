"""An order in the dispatcher's hands: what its owner hears, and its one end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from inference.contract import Cancelled, Failed, Finished, JobEvent, Outcome, Retrying, Running, Waiting


class Ticket:
    """News of one order, coalesced while nobody listens. ``events`` is for one listener."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._unheard: list[JobEvent] = []
        self._news = asyncio.Event()
        self._outcome: Outcome | None = None

    @property
    def settled(self) -> bool:
        """Whether the last event is known."""
        return self._outcome is not None

    def tell(self, event: Waiting | Running | Retrying) -> None:
        """Replace news of the same kind that nobody has heard yet."""
        if self.settled:
            return
        if self._unheard and type(self._unheard[-1]) is type(event):
            self._unheard.pop()
        self._unheard.append(event)
        self._news.set()

    def settle(self, outcome: Outcome) -> None:
        """End the order; the first outcome counts."""
        if self.settled:
            return
        self._outcome = outcome
        self._unheard.append(outcome)
        self._news.set()

    async def events(self) -> AsyncIterator[JobEvent]:
        """What happens to the order, oldest unheard news first; ends after the outcome."""
        while True:
            await self._news.wait()
            self._news.clear()
            news, self._unheard = self._unheard, []
            for event in news:
                yield event
                if isinstance(event, Finished | Failed | Cancelled):
                    return
