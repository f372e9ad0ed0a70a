"""The monitor: checks by each server's configuration, one process at a time, and all that follows is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.egress import Egress, EgressPolicy
from registry.core.events import EventBus
from registry.core.leases import SECONDS
from registry.core.outbox import OutboxJob
from registry.core.security import Sealer
from registry.health import history
from registry.health.book import HealthBook, HealthChecked
from registry.health.course import LOW_UPTIME, UNREACHABLE, Observation
from registry.health.models import HealthAlert, HealthRollup, HealthSample
from registry.health.monitor import AT_ONCE, RECHECK_SECONDS, Monitor
from registry.health.monitoring import MonitoringService
from registry.notifications.senders import Senders
from registry.notifications.service import NotificationService
from registry.servers.connection import Offer
from registry.servers.discovery import Discovery
from registry.servers.models import Server
from registry.servers.service import Registration, ServerService
from registry.usage.calls import Call
from registry.usage.service import UsageService
from tests.registry.servers.house import UP, Prober
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, Person, add_organization, add_user

INTERVAL = 60
GOOD = {"connectivity": "healthy", "handshake": "healthy", "capabilities": "healthy"}


@dataclass
class Checker:
    """Answers what the test says: a server named in `down` cannot be used."""

    clock: SettableClock
    down: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def check(self, org_id: str, server_id: str, checks: Collection[str], *, within: float) -> Observation | None:
        self.asked.append(server_id)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        now = self.clock.now()
        if server_id in self.down:
            return Observation(now, usable=False, checks={"connectivity": "unhealthy"}, error="nobody is there")
        return Observation(now, usable=True, checks=GOOD, response_time_ms=12.5)


@dataclass
class Watch:
    database: Database
    events: EventBus
    clock: SettableClock
    admin: Person
    book: HealthBook
    servers: ServerService
    notifications: NotificationService
    checker: Checker
    monitors: list[Monitor] = field(default_factory=list)

    @property
    def monitoring(self) -> MonitoringService:
        return MonitoringService(self.clock, AuditService(self.clock), self.book)

    def monitor(self) -> Monitor:
        made = Monitor(self.database, self.book, self.checker, self.clock, self.events)
        self.monitors.append(made)
        return made

    async def register(self, name: str, **config: Any) -> str:
        prober = Prober(UP)
        prober.gate.set()
        discovery = Discovery(self.database, self.servers, prober)
        server = await discovery.register(self.admin.principal, Registration(name, "http://127.0.0.1:1/mcp"))
        async with self.database.transaction() as session:
            wanted = {"check_interval_seconds": INTERVAL, "retry_count": 0, **config}
            await self.monitoring.configure(session, self.admin.principal, server.id, wanted)
        return server.id

    async def round(self, monitor: Monitor, seconds: float = INTERVAL) -> None:
        """Let so much time pass, and everything be checked that is due."""
        self.clock.advance(seconds)
        await monitor.tick()
        await monitor.idle()
        await monitor.write()

    async def status(self, server_id: str) -> str:
        async with self.database.reading() as session:
            return (await session.get_one(Server, server_id)).health_status

    async def alerts(self) -> list[tuple[str, bool]]:
        """Type of each alert, and whether it is open."""
        async with self.database.reading() as session:
            rows = await session.scalars(select(HealthAlert).order_by(HealthAlert.created_at, HealthAlert.type))
            return [(row.type, row.resolved_at is None) for row in rows]

    async def notices(self) -> list[tuple[str, str]]:
        async with self.database.reading() as session:
            jobs = await session.scalars(select(OutboxJob).order_by(OutboxJob.created_at))
            return [(job.payload["notice"]["event"], job.payload["notice"]["type"]) for job in jobs]


@pytest.fixture
async def watch(database: Database, events: EventBus) -> AsyncIterator[Watch]:
    clock = SettableClock()
    admin = await add_user(
        database, clock, await add_organization(database, clock, "acme"), "a@acme.test", role="admin"
    )
    audit = AuditService(clock)
    egress = Egress(EgressPolicy(local_mode=True))
    senders = Senders(egress, clock, None)
    notifications = NotificationService(clock, audit, Sealer(MASTER, "notifications"), senders)
    book = HealthBook(clock, notifications)
    servers = ServerService(clock, Sealer(MASTER, "servers"), audit, health=book)
    checker = Checker(clock)
    checker.gate.set()
    made = Watch(database, events, clock, admin, book, servers, notifications, checker)
    yield made
    for monitor in made.monitors:
        await monitor.stop()
    await egress.close()


async def channel(watch: Watch, server_id: str) -> None:
    async with watch.database.transaction() as session:
        await watch.notifications.create(
            session,
            watch.admin.principal,
            server_id,
            name="mail",
            kind="email",
            config={"recipients": ["ada@acme.test"]},
        )


async def test_a_server_that_goes_down_and_comes_back(watch: Watch) -> None:
    server_id = await watch.register("notes")
    await channel(watch, server_id)
    heard: list[tuple[str, str]] = []
    watch.events.subscribe(HealthChecked, lambda checked: heard.append((checked.before, checked.status)))
    monitor = watch.monitor()
    await monitor.tick()
    await watch.round(monitor)
    assert await watch.status(server_id) == "healthy"
    watch.checker.down.add(server_id)
    for _ in range(3):
        await watch.round(monitor)
    assert await watch.status(server_id) == "unhealthy"
    assert await watch.alerts() == [(UNREACHABLE, True)]
    assert await watch.notices() == [("alert.raised", UNREACHABLE)]
    watch.checker.down.clear()
    await watch.round(monitor)
    assert await watch.status(server_id) == "healthy"
    # That it is up again is looked into soon.
    await watch.round(monitor, RECHECK_SECONDS)
    assert await watch.alerts() == [(UNREACHABLE, False)]
    assert await watch.notices() == [("alert.raised", UNREACHABLE), ("alert.resolved", UNREACHABLE)]
    assert [pair for pair in heard if pair[0] != pair[1]] == [("healthy", "unhealthy"), ("unhealthy", "healthy")]


async def test_a_failed_check_is_repeated_before_it_counts(watch: Watch) -> None:
    server_id = await watch.register("notes", retry_count=2)
    monitor = watch.monitor()
    await monitor.tick()
    watch.checker.down.add(server_id)
    watch.clock.advance(INTERVAL)
    await monitor.tick()
    for tries in (1, 2):
        async with asyncio.timeout(30):
            while len(watch.checker.asked) < tries or not watch.clock._sleepers:
                await asyncio.sleep(0)
        watch.clock.advance(2)
    watch.checker.down.clear()
    await monitor.idle()
    await monitor.write()
    assert len(watch.checker.asked) == 3
    assert (await watch.status(server_id), await watch.alerts()) == ("healthy", [])


async def test_each_server_has_its_own_interval_and_may_be_left_alone(watch: Watch) -> None:
    often = await watch.register("often", check_interval_seconds=10)
    seldom = await watch.register("seldom", check_interval_seconds=600)
    never = await watch.register("never", enabled=False)
    monitor = watch.monitor()
    await monitor.tick()
    for _ in range(60):
        await watch.round(monitor, 10)
    asked = watch.checker.asked
    assert 59 <= asked.count(often) <= 67
    assert 1 <= asked.count(seldom) <= 2
    assert never not in asked


async def test_one_process_checks_at_a_time(watch: Watch) -> None:
    await watch.register("notes")
    first, second = watch.monitor(), watch.monitor()
    await first.tick()
    for _ in range(3):
        await watch.round(first, SECONDS / 2)
        await watch.round(second, 0)
    assert second.watched == ()
    before = len(watch.checker.asked)
    await watch.round(second, SECONDS)
    await watch.round(second)
    assert len(watch.checker.asked) > before


async def test_only_so_many_are_checked_at_once(watch: Watch) -> None:
    for number in range(AT_ONCE + 5):
        await watch.register(f"notes {number}")
    monitor = watch.monitor()
    await monitor.tick()
    watch.checker.gate.clear()
    watch.clock.advance(INTERVAL)
    await monitor.tick()
    watch.clock.advance(1)
    await monitor.tick()
    while watch.checker.under_way < AT_ONCE:
        await asyncio.sleep(0)
    watch.checker.gate.set()
    await monitor.idle()
    assert watch.checker.most == AT_ONCE


async def test_failing_calls_bring_the_check_forward(watch: Watch) -> None:
    server_id = await watch.register("notes", check_interval_seconds=3600)
    usage = UsageService(watch.database, watch.clock)
    monitor = watch.monitor()
    await watch.round(monitor, 0)
    watch.checker.asked.clear()

    def call(outcome: str) -> Call:
        at, org_id = 1, watch.admin.principal.org_id
        return Call(at, org_id, None, None, server_id, "notes", "tools/call", "say", outcome, None, 1, 1, 1, 0.0, None)

    await usage.write([call("ok")])
    await watch.round(monitor, 10)
    before = len(watch.checker.asked)
    await usage.write([call("ok"), *[call("unknown")] * 5])
    await watch.round(monitor, 10)
    assert len(watch.checker.asked) == before + 1
    # The check went well, and the calls did not.
    assert (await watch.status(server_id), await watch.alerts()) == ("degraded", [("failing_calls", True)])


async def test_history_is_rolled_up_and_forgotten(watch: Watch) -> None:
    server_id = await watch.register("notes")
    monitor = watch.monitor()
    await monitor.tick()
    for minute in range(90):
        (watch.checker.down.add if 30 <= minute < 36 else watch.checker.down.discard)(server_id)
        await watch.round(monitor)
    async with watch.database.transaction() as session:
        await history.roll_up(session)
        await history.roll_up(session)
    async with watch.database.reading() as session:
        whole = select(func.count(), func.sum(HealthSample.failed)).select_from(HealthSample)
        checks, failed = (await session.execute(whole)).one()
        for step in history.STEPS.values():
            sums = select(func.sum(HealthRollup.checks), func.sum(HealthRollup.failed)).where(HealthRollup.step == step)
            assert (await session.execute(sums)).one() == (checks, failed)
        hourly = await session.scalars(select(HealthRollup.at).where(HealthRollup.step == 3600))
        assert len(hourly.all()) == 2
        live = await watch.monitoring.metrics(session, watch.admin.principal, "notes", granularity="5m")
    watch.clock.advance(3 * 86_400)
    async with watch.database.transaction() as session:
        await history.forget(session, watch.clock.now())
        assert await session.scalar(select(func.count()).select_from(HealthSample)) == 0
    async with watch.database.reading() as session:
        start, end = live.period.start_time, live.period.end_time
        later = await watch.monitoring.metrics(
            session, watch.admin.principal, "notes", start=start, end=end, granularity="5m"
        )
    assert later == live
    assert (live.summary.total_checks, live.summary.failed_checks) == (checks, failed)


async def test_in_maintenance_nobody_is_told_and_uptime_does_not_suffer(watch: Watch) -> None:
    begin = watch.clock.now() + timedelta(seconds=4.5 * INTERVAL)
    window = {"starts_at": begin.isoformat(), "ends_at": (begin + timedelta(seconds=5 * INTERVAL)).isoformat()}
    server_id = await watch.register("notes", maintenance_windows=[window])
    await channel(watch, server_id)
    monitor = watch.monitor()
    await monitor.tick()
    for _ in range(4):
        await watch.round(monitor)

    async def counted() -> tuple[int, int]:
        async with watch.database.reading() as session:
            told = (await watch.monitoring.metrics(session, watch.admin.principal, "notes")).summary
            return told.total_checks, told.failed_checks

    before = await counted()
    assert before[0] >= 4
    watch.checker.down.add(server_id)
    asked = len(watch.checker.asked)
    for _ in range(4):
        await watch.round(monitor)
    # It is checked, and shown as it is.
    assert len(watch.checker.asked) > asked
    assert await watch.status(server_id) == "unhealthy"
    assert (await counted(), await watch.alerts(), await watch.notices()) == (before, [], [])
    for _ in range(2):
        await watch.round(monitor)
    assert await watch.alerts() == [(UNREACHABLE, True)]
    assert await watch.notices() == [("alert.raised", UNREACHABLE)]
    assert (await counted())[1] >= 1


async def test_low_uptime_is_told_once_it_means_something(watch: Watch) -> None:
    every = 5 * INTERVAL
    config = {"check_interval_seconds": every, "alert_thresholds": {"uptime_percentage": 90}}
    server_id = await watch.register("notes", **config)
    monitor = watch.monitor()
    await monitor.tick()
    for number in range(36):
        (watch.checker.down.add if number < 6 else watch.checker.down.discard)(server_id)
        await watch.round(monitor, every)
    assert (LOW_UPTIME, True) in await watch.alerts()
    assert [notice for notice in await watch.alerts() if notice[0] == LOW_UPTIME] == [(LOW_UPTIME, True)]
    for _ in range(60):
        await watch.round(monitor, every)
    assert (LOW_UPTIME, False) in await watch.alerts()


async def test_a_look_by_discovery_counts_as_an_observation(watch: Watch) -> None:
    server_id = await watch.register("notes")
    async with watch.database.transaction() as session:
        server = await watch.servers.get(session, watch.admin.principal, server_id)
        down = Offer(reachable=False, error="gone", checks={"connectivity": "unhealthy"})
        await watch.servers.take(session, server, down)
    assert (await watch.status(server_id), await watch.alerts()) == ("unhealthy", [(UNREACHABLE, True)])


async def test_an_alert_that_was_closed_by_hand_comes_again_while_its_reason_lasts(watch: Watch) -> None:
    server_id = await watch.register("notes")
    watch.checker.down.add(server_id)
    monitor = watch.monitor()
    await monitor.tick()
    await watch.round(monitor)
    async with watch.database.transaction() as session:
        (alert,) = (await watch.monitoring.alerts(session, watch.admin.principal, "notes")).alerts
        await watch.monitoring.resolve_alert(session, watch.admin.principal, "notes", alert.id)
    await watch.round(monitor)
    assert sorted(await watch.alerts()) == [(UNREACHABLE, False), (UNREACHABLE, True)]
