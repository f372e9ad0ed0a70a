"""What one process knows of the emergency stops: held in memory for the data path, read anew every `POLL_SECONDS`.

The table is the truth and a poll finds every change of any process, so that stopping needs no bus that could be down.
A change made in this process is known at once, by its event. Whoever asks while the table has not been read for
`BLIND_SECONDS` learns that nobody knows, and must `read` before anything passes, or refuse. So nothing is ever admitted
on a reading that is older than that, however slow this process or the database is. Neighbours:
`registry.emergency.service` writes the table, `gateway.mcp.policies.stop` asks here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.events import EventBus
from registry.core.repeating import Repeating
from registry.emergency.errors import StopStateUnknown
from registry.emergency.events import EmergencyResumed, EmergencyStopped
from registry.emergency.service import in_force
from registry.emergency.stop import Stop

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
BLIND_SECONDS = 0.9
"""A stop is refused everywhere within a second, its commit included."""
POLL_READ_SECONDS = 1.0
"""A poll that takes longer is given up for the next: its connection may hang, and streams are waiting to be ended."""
READ_SECONDS = 5.0
"""How long a caller waits to know, at most. What is slow under load is better waited for than refused."""

_UNKNOWN = (
    "Whether an emergency stop is in force could not be read, so nothing passes: "
    "check that the gateway reaches its database."
)

Listener = Callable[[Stop], object]


class EmergencySwitch:
    """The stops in force, as this process last read them.

    Args:
        database: one that nothing else uses, so that no crowd waiting for connections keeps a stop from arriving.
    """

    def __init__(self, database: Database, events: EventBus, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._stops: dict[str, Stop] = {}
        self._listeners: list[Listener] = []
        self._read_at = float("-inf")
        self._changes = 0
        self._looking = asyncio.Lock()
        self._polling = Repeating(
            # Told once while it lasts; until nobody knows any more, the state in memory holds.
            clock,
            POLL_SECONDS,
            lambda: self.read(POLL_READ_SECONDS),
            "the emergency stop's state could not be read",
        )
        events.subscribe(EmergencyStopped, lambda happened: self._pressed(happened.stop))
        events.subscribe(EmergencyResumed, lambda happened: self._ended(happened.stop))

    def on_stop(self, listener: Listener) -> None:
        """Call `listener` once for every stop that this process learns of."""
        self._listeners.append(listener)

    def standing(self, org_id: str) -> Stop | None:
        """The stop that an organisation stands under.

        Raises:
            StopStateUnknown: the table has not been readable for too long.
        """
        if self._clock.monotonic() - self._read_at > BLIND_SECONDS:
            raise StopStateUnknown(_UNKNOWN)
        return self._covering(org_id)

    async def look(self, org_id: str) -> Stop | None:
        """As `standing`, for whoever may wait until the table has been read again.

        Raises:
            StopStateUnknown: it cannot be read.
        """
        oldest = self._clock.monotonic() - BLIND_SECONDS
        async with self._looking:
            # All who came while one was reading are served by the next reading.
            if self._read_at < oldest:
                try:
                    await self.read()
                except Exception as error:
                    # Whatever it is that fails, nobody knows, and nothing may pass.
                    raise StopStateUnknown(_UNKNOWN) from error
        return self._covering(org_id)

    def _covering(self, org_id: str) -> Stop | None:
        if not self._stops:
            return None
        return next((stop for stop in self._stops.values() if stop.covers(org_id)), None)

    async def start(self) -> None:
        """Read the table, then keep reading it. What cannot be read ends the start: a stop outlives its process."""
        await self.read()
        self._polling.start()

    async def stop(self) -> None:
        await self._polling.stop()

    async def read(self, patience: float = READ_SECONDS) -> None:
        """Read the table once, in so many seconds at most."""
        while True:
            changes, began = self._changes, self._clock.monotonic()
            async with asyncio.timeout(patience), self._database.reading() as session:
                found = await in_force(session)
            if changes == self._changes:
                break
            # Something changed here meanwhile, and what was read may be older than that.
        before, self._stops = self._stops, {stop.id: stop for stop in found}
        self._read_at = began
        for stop in found:
            if stop.id not in before:
                self._tell(stop)

    def _pressed(self, stop: Stop) -> None:
        self._changes += 1
        if stop.id not in self._stops:
            self._stops = {**self._stops, stop.id: stop}
            self._tell(stop)

    def _ended(self, stop: Stop) -> None:
        self._changes += 1
        self._stops = {identity: other for identity, other in self._stops.items() if identity != stop.id}

    def _tell(self, stop: Stop) -> None:
        log.warning("emergency stop", scope=stop.scope, org_id=stop.org_id, reason=stop.reason, by=stop.by)
        for listener in self._listeners:
            listener(stop)
