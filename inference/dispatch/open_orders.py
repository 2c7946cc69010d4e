"""The orders that have not ended: what their owners hear, and the one place where each of them ends."""

from __future__ import annotations

from inference.contract import Outcome, Standing
from inference.dispatch.ticket import Ticket

MOST_ATTEMPTS = 2
"""How many workers may die with the same order in hand."""


class OpenOrders:
    """Tickets by job id. News of an order that is not among them (any more) is dropped: one that was cancelled and
    whose worker then crashes must not be answered twice."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._tickets

    def open(self, job_id: str, *, attempts: int = 0) -> Ticket:
        """Open an order that ``attempts`` workers have had in hand before."""
        ticket = self._tickets[job_id] = Ticket(job_id, attempts=attempts)
        return ticket

    def standing(self) -> dict[str, Standing]:
        """The state of every open order, by job id."""
        told = ((job_id, ticket.latest) for job_id, ticket in self._tickets.items())
        return {job_id: event for job_id, event in told if isinstance(event, Standing)}

    def tell(self, job_id: str, event: Standing) -> None:
        """News for the owner."""
        if job_id in self._tickets:
            self._tickets[job_id].tell(event)

    def begin_attempt(self, job_id: str) -> None:
        """A worker is given the order."""
        self._tickets[job_id].attempt()

    def put_back(self, job_id: str, *, counts: bool) -> None:
        """The order waits again; ``counts``: the attempt counts towards ``MOST_ATTEMPTS``."""
        self._tickets[job_id].put_back(counts=counts)

    def may_try_again(self, job_id: str) -> bool:
        """Whether fewer than ``MOST_ATTEMPTS`` workers have had the order."""
        return self._tickets[job_id].attempts < MOST_ATTEMPTS

    def settle(self, job_id: str, outcome: Outcome) -> None:
        """The one place where an order ends."""
        ticket = self._tickets.pop(job_id, None)
        if ticket is not None:
            ticket.settle(outcome)
