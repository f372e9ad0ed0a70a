"""Upkeep: looking at servers again of the gateway's own accord, in one process at a time.

A server that answers is looked at again when what it offers may be outdated: after its own time to live, or the
gateway's. One that does not answer is tried every 15 seconds at first, then ever less often, so that a server that was
down when it was registered appears by itself. Looking and writing down is `registry.servers.discovery`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import select

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.errors import GatehouseError
from registry.core.leases import Lease
from registry.core.repeating import Repeating
from registry.servers.discovery import Discovery, discoverer
from registry.servers.models import Server

log = structlog.get_logger(__name__)

TICK_SECONDS = 3.0
FIRST_RETRY_SECONDS = 15.0
LAST_RETRY_SECONDS = 300.0
SHORTEST_TTL_SECONDS = 15.0
"""However often a server says that it changes."""
AT_ONCE = 8
JITTER = 0.2
"""By how much of itself a pause may be shorter, so that servers registered together drift apart."""


@dataclass(slots=True)
class _Known:
    """A server as it was last seen: when it was looked at, how often in vain, and when its turn comes."""

    looked_at: str | None
    failures: int
    due: float


class Upkeep:
    """Looks at the servers of all organisations.

    Args:
        ttl_seconds: how often to look at a server that says nothing of it.
    """

    def __init__(self, database: Database, discovery: Discovery, clock: Clock, ttl_seconds: float) -> None:
        self._database = database
        self._discovery = discovery
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._lease = Lease(database, clock, "servers.upkeep")
        self._known: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        complaint = "servers could not be looked at again, trying later"
        self._rounds = Repeating(clock, TICK_SECONDS, self.tick, complaint, self._lease)

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop(lambda: list(self._looking.values()))

    async def tick(self) -> None:
        """Begin to look at the servers whose turn it is, if it is this process that does."""
        if not await self._lease.hold():
            self._known.clear()
            return
        for server_id, org_id in await self._due():
            if len(self._looking) >= AT_ONCE:
                return
            if server_id not in self._looking:
                self._looking[server_id] = asyncio.create_task(self._look(org_id, server_id))

    async def idle(self) -> None:
        """Return when no look is under way."""
        await asyncio.gather(*self._looking.values())

    async def _due(self) -> list[tuple[str, str]]:
        """Id and organisation of the servers whose turn it is, the longest overdue first."""
        columns = (Server.id, Server.org_id, Server.health_status, Server.health, Server.server_metadata)
        live = select(*columns).where(Server.deleted_at.is_(None), Server.status == "active")
        async with self._database.reading() as session:
            rows = (await session.execute(live)).all()
        before, self._known = self._known, {}
        now = self._clock.monotonic()
        for server_id, _, status, health, metadata in rows:
            looked_at: str | None = health.get("last_check_at")
            known = before.get(server_id)
            if known is None or known.looked_at != looked_at:
                failures = (known.failures if known else 0) + 1 if status == "unhealthy" else 0
                pause = self._pause(failures, metadata.get("ttl_ms"))
                known = _Known(looked_at, failures, now - self._age(looked_at) + pause)
            self._known[server_id] = known
        due = [(self._known[row.id].due, row.id, row.org_id) for row in rows if self._known[row.id].due <= now]
        return [(server_id, org_id) for _, server_id, org_id in sorted(due)]

    def _pause(self, failures: int, ttl_ms: int | None) -> float:
        if failures:
            pause = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10))
        else:
            pause = max(SHORTEST_TTL_SECONDS, ttl_ms / 1000 if ttl_ms else self._ttl_seconds)
        return pause * random.uniform(1 - JITTER, 1)  # noqa: S311 - spreads load, keeps no secret

    def _age(self, looked_at: str | None) -> float:
        """Seconds since a look; one that is told to be in the future was just now."""
        if looked_at is None:
            return float("inf")
        return max(0.0, (self._clock.now() - datetime.fromisoformat(looked_at)).total_seconds())

    async def _look(self, org_id: str, server_id: str) -> None:
        try:
            await self._discovery.discover(discoverer(org_id), server_id)
        except GatehouseError as error:
            # Removed meanwhile, or at an address that may no longer be contacted: its turn comes again.
            log.debug("a server could not be looked at", server_id=server_id, why=error.message)
            self._put_off(server_id)
        except Exception:
            log.exception("looking at a server failed", server_id=server_id)
            self._put_off(server_id)
        finally:
            del self._looking[server_id]

    def _put_off(self, server_id: str) -> None:
        """A look that left no trace must not be repeated at every tick."""
        if known := self._known.get(server_id):
            known.failures += 1
            known.due = self._clock.monotonic() + self._pause(known.failures, None)
