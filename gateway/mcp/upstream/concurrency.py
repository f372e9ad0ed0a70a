"""How many calls may be under way at one server: the rest wait in line, in order, and the line has an end.

It counts places and knows no time: how long a call may wait is its flight's affair.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.mcp.upstream.port import NotSent
from registry.core.errors import GatehouseError

LEAST_WAITING = 100
"""The line holds as many calls as may be under way, and at least so many."""


class ConcurrencyInvalid(GatehouseError):
    code = "CONCURRENCY_INVALID"
    title = "Concurrency invalid"


class Crowded(NotSent):
    """All places at the server are taken, so this call was not sent."""

    def __init__(self, server: str, most: int, why: str) -> None:
        super().__init__(
            server, f"{most} calls are under way there, which is the most, and {why}; call again later", blames=False
        )
        self.data["retry_after"] = 1


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many calls at once.

    Args:
        most: at any one server; 0 is no limit.
        by_name: at servers with these slugs.
    """

    most: int = 0
    by_name: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, slug: str) -> int:
        return self.by_name.get(slug, self.most)


def parse_concurrency(most: int, entries: Sequence[str]) -> Concurrency:
    """From `SLUG=CALLS` entries.

    Raises:
        ConcurrencyInvalid: an entry is not of that form.
    """
    by_name: dict[str, int] = {}
    for entry in entries:
        name, _, amount = entry.partition("=")
        if not name.strip() or not amount.strip().isdigit():
            raise ConcurrencyInvalid(
                f"GATEHOUSE_CONCURRENCY_LIMITS has {entry!r}: write SLUG=CALLS, a server's slug and how many calls "
                "may be under way there, 0 for any number."
            )
        by_name[name.strip()] = int(amount)
    return Concurrency(most, by_name)


class Places:
    """The places at one server.

    Args:
        server: its slug, for the refusals.
        most: 0 is no limit.
    """

    __slots__ = ("_line", "_server", "busy", "most")

    def __init__(self, server: str, most: int) -> None:
        self._server = server
        self._line: deque[asyncio.Future[None]] = deque()
        self.most = most
        self.busy = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    def take(self) -> asyncio.Future[None] | None:
        """Take a place. Where none is free, gives what to wait for, and `leave_line` for who waits no longer.

        Raises:
            Crowded: the line is full as well.
        """
        if not self.most or self.busy < self.most:
            self.busy += 1
            return None
        if len(self._line) >= max(self.most, LEAST_WAITING):
            raise Crowded(self._server, self.most, f"{len(self._line)} wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        return turn

    def give(self) -> None:
        """Give a place back: it is the next one's in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.busy -= 1

    def leave_line(self, turn: asyncio.Future[None]) -> None:
        """Wait no longer; a place that was just given goes on to the next."""
        if turn.done() and not turn.cancelled():
            self.give()
        elif turn in self._line:
            self._line.remove(turn)

    def late(self) -> Crowded:
        """What a call fails with whose turn did not come in time."""
        return Crowded(self._server, self.most, "none of them ended in time")
