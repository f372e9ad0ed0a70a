"""Busy polling: for a moment after a connection was heard or answered, the event loop looks again instead of sleeping.

Waking a process costs more than a short call does. A client that asks one thing after the other, and a server that
answers at once, are met awake; where several connections are busy the loop does not sleep anyway, so only one that is
busy alone is waited for. `gateway.edge` tells of connections.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic


class BusyPolling:
    """Polls for one connection at a time.

    Args:
        seconds: how long to look after a connection was last heard of; 0 for not at all. With a single processor that
            would only keep others from it who are to answer.
    """

    def __init__(
        self,
        seconds: float,
        *,
        processors: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._seconds = seconds if (processors or os.cpu_count()) != 1 else 0.0
        self._clock = clock
        self._connection: object = None
        self._until = 0.0
        self._polling = False

    def stir(self, connection: object, loop: asyncio.AbstractEventLoop) -> None:
        """A connection was heard or answered: what comes of it may follow within a moment."""
        if connection is not self._connection:
            # Another one is busy too, or was: whichever is heard twice in a row is alone.
            self._connection = connection
            self._until = 0.0
        elif self._seconds:
            self._until = self._clock() + self._seconds
            if not self._polling:
                self._polling = True
                loop.call_soon(self._poll, loop)

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._clock() < self._until:
            loop.call_soon(self._poll, loop)
        else:
            self._polling = False
