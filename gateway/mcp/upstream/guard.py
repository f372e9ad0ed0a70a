"""What stands before one server and outlives its calls: the breaker, the places, the budget for repetitions.

A call comes in by `enter`, and goes by `leave` with what it says of the server. It knows nothing of messages; who calls
is `gateway.mcp.call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.mcp.upstream.breaker import Breaker, CircuitOpen
from gateway.mcp.upstream.concurrency import Places
from gateway.mcp.upstream.retries import RetryBudget
from registry.servers.circuit import Circuit

if TYPE_CHECKING:
    from registry.core.clock import Clock


class Guard:
    """The guard of one server.

    Args:
        server: its slug.
        most: calls under way at once; 0 is no limit.
    """

    __slots__ = ("breaker", "calls", "places", "retries", "server")

    def __init__(self, server: str, clock: Clock, most: int = 0) -> None:
        self.server = server
        self.breaker = Breaker(server, clock)
        self.places = Places(server, most)
        self.retries = RetryBudget()
        self.calls = 0
        """That were let in."""

    def enter(self) -> int:
        """Let a call in, as far as the breaker goes; gives its round. Raises `CircuitOpen`."""
        of_round = self.breaker.admit()
        self.calls += 1
        self.retries.earn()
        return of_round

    def again(self, of_round: int, reason: str) -> int | None:
        """A call has failed and could be repeated: the repetition's round, or `None` if it must not be made."""
        self.breaker.failed(of_round, reason)
        try:
            return self.breaker.admit() if self.retries.spend() else None
        except CircuitOpen:
            return None

    def leave(self, of_round: int, reason: str | None, *, healthy: bool | None) -> None:
        """A call has ended.

        Args:
            healthy: what it says of the server; `None` for nothing.
            reason: why not.
        """
        self.places.give()
        if healthy:
            self.breaker.succeeded()
        elif healthy is None:
            self.breaker.undecided(of_round)
        else:
            self.breaker.failed(of_round, reason or "it failed")

    @property
    def circuit(self) -> Circuit:
        """How things stand, for people."""
        breaker, places = self.breaker, self.places
        return Circuit(
            state=breaker.state,
            failures=breaker.failures,
            reason=breaker.reason,
            retry_after=round(breaker.wait, 1),
            in_flight=places.busy,
            waiting=places.waiting,
        )
