"""Calls under way: their deadlines, and the clients that went away.

One sweep every `SWEEP_SECONDS` looks at all of them, so that a call pays for neither a timer nor a watching task.
A call that is ended is cancelled; its transport then tells the server. `Flight.failure` says why it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

SWEEP_SECONDS = 0.1

Receive = Callable[[], Awaitable[Any]]


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Flight:
    """One call under way.

    Args:
        receive: the connection's ASGI `receive`, to learn that the client has gone.
        deadline: in seconds of `time.monotonic`; moved on as the answer arrives.
        late: what the call fails with at its deadline.
        stoppable: ended by an emergency stop.
    """

    __slots__ = ("deadline", "failure", "late", "org_id", "receive", "stoppable", "task", "watcher")

    def __init__(
        self,
        receive: Receive | None,
        org_id: str,
        deadline: float,
        late: Callable[[], Exception],
        *,
        stoppable: bool = False,
    ) -> None:
        self.task = asyncio.current_task()
        self.receive = receive
        self.org_id = org_id
        self.deadline = deadline
        self.late = late
        self.stoppable = stoppable
        self.failure: Exception | None = None
        self.watcher: asyncio.Task[None] | None = None

    def reason(self) -> Exception | None:
        """Why the call was ended, if it was; its task then goes on as one that was not cancelled."""
        if self.failure is not None and self.task is not None:
            self.task.uncancel()
        return self.failure

    def end(self, failure: Exception) -> None:
        """Cancel the call; whoever awaits it raises `failure`."""
        if self.failure is None and self.task is not None:
            self.failure = failure
            self.task.cancel()

    async def watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end(ClientGone())


class Flights:
    """All calls under way in this process."""

    def __init__(self) -> None:
        self._flying: set[Flight] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._flying)

    def take_off(self, flight: Flight) -> None:
        self._flying.add(flight)

    def land(self, flight: Flight) -> None:
        self._flying.discard(flight)
        if flight.watcher is not None:
            flight.watcher.cancel()
            # What it ends with refers to the flight: nothing is left for the collector of cycles.
            flight.watcher = None

    def under_way(self) -> list[Flight]:
        return list(self._flying)

    async def _sweep(self) -> None:
        before: set[Flight] = set()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for flight in tuple(self._flying):
                if now >= flight.deadline:
                    flight.end(flight.late())
                elif flight in before and flight.watcher is None and flight.receive is not None:
                    # Only calls that outlive a sweep are worth a task that watches their client.
                    flight.watcher = asyncio.create_task(flight.watch(flight.receive))
            before = set(self._flying)
