"""A circuit breaker: a server that keeps failing is left alone for a while, and its callers hear so at once.

Closed, every call passes. After `THRESHOLD` failures in a row it opens: calls fail without being sent, but for one at
the end of each pause, which tries whether the server is back. A success closes it. It knows times and results, and
nothing of what is called; `guard` puts it before a server.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Literal

from gateway.mcp.upstream.port import NotSent

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.core.clock import Clock

THRESHOLD = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 9.0
SPREAD = 0.1
"""Share by which a pause is longer or shorter, so that processes do not try together; none is over 10 seconds."""

_chance = random.Random().random  # noqa: S311 - chance, not secrecy
State = Literal["closed", "open", "half_open"]


class CircuitOpen(NotSent):
    """The server has kept failing, so this call was not sent."""

    def __init__(self, server: str, failures: int, seconds: float, reason: str) -> None:
        wait = max(1, math.ceil(seconds))
        super().__init__(
            server,
            f"it has failed {failures} times in a row ({reason}), and is tried again in {wait} s; "
            "call again then, or see to the server",
            blames=False,
        )
        self.data["retry_after"] = wait


class Breaker:
    """The breaker before one server.

    Args:
        server: its slug, for the refusals.
        spread: gives a number from 0 to 1 for each pause.
    """

    __slots__ = ("_clock", "_not_before", "_pause", "_reason", "_server", "_spread", "failures", "opened", "round")

    def __init__(self, server: str, clock: Clock, spread: Callable[[], float] = _chance) -> None:
        self._server = server
        self._clock = clock
        self._spread = spread
        self._pause = 0.0
        self._not_before = 0.0
        self._reason = ""
        self.failures = 0
        """In a row, up to now."""
        self.opened = 0
        """How often it has opened."""
        self.round = 0
        """Counts what changes the meaning of a failure: one of an earlier round says nothing of the server now."""

    @property
    def state(self) -> State:
        """`half_open`: the next call tries the server."""
        if not self._pause:
            return "closed"
        return "open" if self.wait > 0 else "half_open"

    @property
    def wait(self) -> float:
        """Seconds until a call is let through; 0 if one may pass now."""
        return max(0.0, self._not_before - self._clock.monotonic()) if self._pause else 0.0

    @property
    def reason(self) -> str | None:
        """What the last failure was, while there is one."""
        return self._reason if self.failures else None

    def admit(self) -> int:
        """Let a call pass; gives the round that it belongs to. Raises `CircuitOpen`."""
        if self._pause:
            self.check()
            # The next call waits for this one, but no longer than a pause: it may be hanging.
            self._rest(self._pause)
        return self.round

    def check(self) -> None:
        """Raises `CircuitOpen` where a call would not pass."""
        if (wait := self.wait) > 0:
            raise CircuitOpen(self._server, self.failures, wait, self._reason)

    def succeeded(self) -> None:
        """The server has answered."""
        if self.failures:
            self.failures = 0
            if self._pause:
                self._pause = 0.0
                self.round += 1

    def failed(self, of_round: int, reason: str) -> None:
        """A call of that round has failed."""
        if of_round != self.round:
            return
        self.failures += 1
        self._reason = reason
        if self._pause:
            self._rest(min(LONGEST_PAUSE, self._pause * 2))
        elif self.failures >= THRESHOLD:
            self.opened += 1
            self._rest(FIRST_PAUSE)

    def undecided(self, of_round: int) -> None:
        """A call of that round has ended without saying anything of the server: another may try soon."""
        if self._pause and of_round == self.round:
            self._not_before = min(self._not_before, self._clock.monotonic() + FIRST_PAUSE)

    def _rest(self, pause: float) -> None:
        self._pause = pause
        self._not_before = self._clock.monotonic() + pause * (1 + SPREAD * self._spread())
        self.round += 1
