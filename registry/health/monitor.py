"""The monitor: checks every server by its own configuration, in one process at a time.

It keeps its plan in memory and its findings in the book (`registry.health.book`), many in one transaction. A check
that fails is repeated as the server's configuration says before it counts; a server that went up or down is checked
again soon, so that it is known whether it stays there. How a server is checked is a `Checker`'s, from above.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from sqlalchemy import select
from sqlalchemy.orm import load_only

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.events import EventBus
from registry.core.leases import Lease
from registry.core.repeating import Repeating
from registry.health import history
from registry.health.book import HealthBook
from registry.health.course import Observation
from registry.health.review import review_uptime
from registry.health.signals import CallSignals
from registry.servers.events import CatalogChanged
from registry.servers.health_config import HealthConfig
from registry.servers.models import Server

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
PLAN_SECONDS = 5.0
"""How soon a change made by another process is followed; one made in this process is at once."""
SIGNALS_SECONDS = 5.0
ROLL_UP_SECONDS = 60.0
FORGET_SECONDS = 3600.0
AT_ONCE = 32
JITTER = 0.1
"""By how much of itself a pause may be shorter, so that servers registered together drift apart."""
RECHECK_SECONDS = 5.0
"""When a server is checked again that went up or down, or of which calls fail."""
FIRST_RETRY_SECONDS = 1.0


class Checker(Protocol):
    async def check(self, org_id: str, server_id: str, checks: Collection[str], *, within: float) -> Observation | None:
        """Look at a server with little effort, within so many seconds.

        `None` if there is nothing to look at: the server is gone, or has never been discovered, which comes first.
        """
        ...


@dataclass(slots=True)
class _Watched:
    org_id: str
    config: HealthConfig
    due: float
    usable: bool | None = None


class Monitor:
    def __init__(self, database: Database, book: HealthBook, checker: Checker, clock: Clock, events: EventBus) -> None:
        self._database = database
        self._book = book
        self._checker = checker
        self._clock = clock
        self._lease = Lease(database, clock, "health.monitor")
        self._signals = CallSignals()
        self._watched: dict[str, _Watched] = {}
        self._checking: dict[str, asyncio.Task[None]] = {}
        self._found: list[tuple[str, Observation]] = []
        self._next: dict[str, float] = {}
        complaint = "servers could not be checked, trying later"
        self._rounds = Repeating(clock, TICK_SECONDS, self.tick, complaint, self._lease)
        self._unsubscribe = events.subscribe(CatalogChanged, lambda _changed: self._plan_anew())

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        self._unsubscribe()
        await self._rounds.stop(lambda: list(self._checking.values()))

    async def tick(self) -> None:
        """Begin the checks that are due and write down what has been found, if it is this process that does."""
        if not await self._lease.hold():
            self._watched.clear()
            self._found.clear()
            self._next.clear()
            return
        if self._is_time("plan", PLAN_SECONDS):
            await self._plan()
        if self._is_time("signals", SIGNALS_SECONDS):
            await self._listen()
        self._begin()
        await self.write()
        if self._is_time("roll up", ROLL_UP_SECONDS):
            await self._roll_up()

    async def idle(self) -> None:
        """Return when no check is under way."""
        await asyncio.gather(*self._checking.values())

    async def write(self) -> None:
        """Write down what has been found, in one transaction."""
        found, self._found = self._found, []
        if not found:
            return
        columns = load_only(
            Server.org_id, Server.name, Server.slug, Server.health_status, Server.health, Server.health_config
        )
        ids = {server_id for server_id, _ in found}
        async with self._database.transaction() as session:
            held = select(Server).where(Server.id.in_(ids), Server.deleted_at.is_(None)).order_by(Server.id)
            rows = await session.scalars(held.options(columns).with_for_update())
            servers = {server.id: server for server in rows}
            for server_id, seen in found:
                if server_id in servers:
                    await self._book.note(session, servers[server_id], seen)

    def _is_time(self, what: str, every: float) -> bool:
        now = self._clock.monotonic()
        if now < self._next.get(what, float("-inf")):
            return False
        self._next[what] = now + every
        return True

    def _plan_anew(self) -> None:
        self._next.pop("plan", None)

    async def _plan(self) -> None:
        columns = (Server.id, Server.org_id, Server.health_status, Server.health_config)
        live = select(*columns).where(Server.deleted_at.is_(None), Server.status == "active")
        async with self._database.reading() as session:
            rows = (await session.execute(live)).all()
        before, self._watched = self._watched, {}
        now = self._clock.monotonic()
        for server_id, org_id, status, stored in rows:
            config = HealthConfig.model_validate(stored) if stored else _DEFAULT
            if not config.enabled:
                continue
            known = before.get(server_id)
            if known is None:
                # Spread over the first interval: a process that starts does not ask everybody at once.
                due = now + config.check_interval_seconds * random.random()  # noqa: S311 - no secret
                known = _Watched(org_id, config, due, None if status == "unknown" else status != "unhealthy")
            elif config.check_interval_seconds != known.config.check_interval_seconds:
                known.due = min(known.due, now + self._pause(config))
            known.config = config
            self._watched[server_id] = known

    async def _listen(self) -> None:
        now = self._clock.monotonic()
        async with self._database.reading() as session:
            failing = await self._signals.read(session, now)
        for server_id in failing:
            if watched := self._watched.get(server_id):
                # What calls tell is not believed, but looked into.
                watched.due = min(watched.due, now)

    def _begin(self) -> None:
        now = self._clock.monotonic()
        due = [(watched.due, server_id) for server_id, watched in self._watched.items() if watched.due <= now]
        for _, server_id in sorted(due):
            if len(self._checking) >= AT_ONCE:
                return
            if server_id not in self._checking:
                watched = self._watched[server_id]
                self._checking[server_id] = asyncio.create_task(self._check(server_id, watched))

    async def _check(self, server_id: str, watched: _Watched) -> None:
        began = self._clock.monotonic()
        watched.due = began + self._pause(watched.config)
        try:
            seen = await self._look(server_id, watched)
        except Exception:
            log.exception("checking a server failed", server_id=server_id)
            return
        finally:
            del self._checking[server_id]
        if seen is None:
            return
        if seen.usable:
            seen = replace(seen, failing_calls=self._signals.trouble(server_id, self._clock.monotonic()))
        if watched.usable is not None and seen.usable != watched.usable:
            watched.due = min(watched.due, self._clock.monotonic() + RECHECK_SECONDS)
        watched.usable = seen.usable
        self._found.append((server_id, seen))

    async def _look(self, server_id: str, watched: _Watched) -> Observation | None:
        """A check with its repetitions, which end when the next check would begin."""
        config = watched.config
        end = self._clock.monotonic() + config.check_interval_seconds
        for attempt in range(config.retry_count + 1):
            seen = await self._checker.check(
                watched.org_id, server_id, config.checks, within=float(config.timeout_seconds)
            )
            # What is known to be down need not be asked again and again.
            if seen is None or seen.usable or watched.usable is False or attempt == config.retry_count:
                return seen
            pause = min(FIRST_RETRY_SECONDS * 2.0**attempt, config.check_interval_seconds / 10)
            if self._clock.monotonic() + pause >= end:
                return seen
            await self._clock.sleep(pause)
        return None

    def _pause(self, config: HealthConfig) -> float:
        return config.check_interval_seconds * random.uniform(1 - JITTER, 1)  # noqa: S311 - no secret

    async def _roll_up(self) -> None:
        now = self._clock.now()
        async with self._database.transaction() as session:
            await history.roll_up(session)
            await review_uptime(session, self._book, now)
            if self._is_time("forget", FORGET_SECONDS):
                await history.forget(session, now)

    @property
    def watched(self) -> Sequence[str]:
        """Ids of the servers in the plan."""
        return tuple(self._watched)


_DEFAULT = HealthConfig()
