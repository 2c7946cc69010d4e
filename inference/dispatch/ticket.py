"""An order in the dispatcher's hands: what its owner hears, and its one outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from inference.contract import Cancelled, Failed, Finished, JobEvent, Outcome, Retrying, Standing


class Ticket:
    """News of one order, coalesced while nobody listens. ``events`` is for one listener."""

    def __init__(self, job_id: str, *, attempts: int = 0) -> None:
        self.job_id = job_id
        self.latest: JobEvent | None = None
        """The latest event, heard or not."""
        self.attempts = attempts
        """How many workers have had it in hand."""
        self.in_hand = False
        """Whether a worker has it now."""
        self._unheard: list[JobEvent] = []
        self._news = asyncio.Event()
        self._attempted = asyncio.Event()
        self._end = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether the order has ended."""
        return self._end.is_set()

    def tell(self, event: Standing) -> None:
        """Add news, replacing older news that nobody has heard yet; a retry is never dropped."""
        if self.settled:
            return
        self.latest = event
        if self._unheard and not isinstance(self._unheard[-1], Retrying):
            self._unheard.pop()
        self._unheard.append(event)
        self._news.set()

    def attempt(self) -> None:
        """A worker is given the order."""
        self.attempts += 1
        self.in_hand = True
        self._attempted.set()

    def put_back(self, *, counts: bool) -> None:
        """The worker no longer has the order, which has not ended; ``counts``: this was one of its attempts."""
        if not counts:
            self.attempts -= 1
        self.in_hand = False
        self._attempted.set()

    def settle(self, outcome: Outcome) -> None:
        """End the order; the first outcome counts."""
        if self.settled:
            return
        self.latest = outcome
        self._unheard.append(outcome)
        self._news.set()
        self._attempted.set()
        self._end.set()

    async def outcome(self) -> Outcome:
        """How the order ends, once it has; for any number of listeners."""
        await self._end.wait()
        assert isinstance(self.latest, Outcome)
        return self.latest

    async def rest(self, seconds: float) -> None:
        """Sleep for ``seconds``, but not beyond the end of the order: a listener that rests hears less, never late."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end.wait()

    async def changing_hands(self) -> AsyncIterator[None]:
        """Yields whenever ``attempts`` or ``in_hand`` have changed; ends with the order."""
        while not self.settled:
            await self._attempted.wait()
            self._attempted.clear()
            if not self.settled:
                yield

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
