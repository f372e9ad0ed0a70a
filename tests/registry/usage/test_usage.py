"""Usage as sums, groups and calls, and as part of the audit log, against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from registry.audit.log import AuditLog, Changes, LogFilter
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden, Invalid
from registry.identity.principal import Principal
from registry.usage.calls import Call
from registry.usage.log import Calls
from registry.usage.queries import CallFilter
from registry.usage.service import UsageService
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
async def admin(database: Database, clock: SettableClock) -> Person:
    org_id = await add_organization(database, clock, "acme")
    return await add_user(database, clock, org_id, "a@acme.test", role="admin")


@pytest.fixture
def usage(database: Database, clock: SettableClock) -> UsageService:
    return UsageService(database, clock)


def call(
    org_id: str,
    at: datetime = NOON,
    *,
    user: str | None = "u1",
    key: int | None = None,
    tool: str = "files__read",
    outcome: str = "ok",
    ms: float = 10,
    size: tuple[int, int] = (100, 300),
    cost: float = 0.0,
) -> Call:
    code = None if outcome == "ok" else -31000
    microseconds = round(at.timestamp() * 1e6)
    slug = tool.partition("__")[0]
    return Call(
        microseconds,
        org_id,
        user,
        key,
        slug,
        slug,
        "tools/call",
        tool,
        outcome,
        code,
        round(ms * 1000),
        *size,
        cost,
        "r",
    )


@pytest.fixture
async def week(usage: UsageService, admin: Person, database: Database, clock: SettableClock) -> str:
    """A hundred quick calls, a slow refused one the day before, one of a key, and one of another organisation."""
    org_id = admin.user.org_id
    calls = [call(org_id, NOON + timedelta(seconds=number), ms=number + 1) for number in range(100)]
    calls.append(call(org_id, NOON - timedelta(days=1), tool="git__push", outcome="denied", ms=500, size=(7, 0)))
    calls.append(call(org_id, NOON + timedelta(hours=1), key=7, tool="git__log", cost=0.25))
    calls.append(call(await add_organization(database, clock, "other")))
    await usage.write(calls)
    return org_id


async def test_sums_and_percentiles(database: Database, usage: UsageService, admin: Person, week: str) -> None:
    async with database.reading() as session:
        quick = await usage.summary(session, admin.principal, CallFilter(name="files__read"))
        assert (quick.calls, quick.errors, quick.bytes_in, quick.bytes_out) == (100, 0, 10_000, 30_000)
        assert quick.estimated_tokens == 10_000
        assert (quick.duration_ms_p50, quick.duration_ms_p95, quick.duration_ms_p99) == (50, 95, 99)
        assert (quick.duration_ms_avg, quick.duration_ms_max) == (50.5, 100)
        everything = await usage.summary(session, admin.principal, CallFilter())
        assert (everything.calls, everything.errors, everything.cost_usd) == (102, 1, 0.25)
        nothing = await usage.summary(session, admin.principal, CallFilter(server="none"))
        assert (nothing.calls, nothing.duration_ms_p50) == (0, None)


async def test_groups(database: Database, usage: UsageService, admin: Person, week: str) -> None:
    async def keys(by: str, **wanted: object) -> dict[str | None, int]:
        async with database.reading() as session:
            groups = await usage.grouped(session, admin.principal, CallFilter(**wanted), by)  # type: ignore[arg-type]
        return {group.key: group.calls for group in groups}

    assert await keys("server") == {"files": 100, "git": 2}
    assert await keys("tool", server="git") == {"git__log": 1, "git__push": 1}
    assert await keys("user") == {"u1": 102}
    assert await keys("key") == {None: 101, "7": 1}
    assert await keys("outcome") == {"ok": 101, "denied": 1}
    assert list((await keys("hour")).items()) == [
        ("2026-11-22T13:00:00+00:00", 1),
        ("2026-11-22T12:00:00+00:00", 100),
        ("2026-11-21T12:00:00+00:00", 1),
    ]
    assert await keys("day", since=NOON) == {"2026-11-22T00:00:00+00:00": 101}
    async with database.reading() as session:
        git, files = sorted(
            await usage.grouped(session, admin.principal, CallFilter(), "server"), key=lambda group: group.calls
        )
        assert (files.duration_ms_p95, git.duration_ms_p50, git.duration_ms_p95) == (95, 10, 500)


async def test_single_calls(database: Database, usage: UsageService, admin: Person, week: str) -> None:
    async with database.reading() as session:
        found, total = await usage.calls(session, admin.principal, CallFilter(key_id=7))
        assert (total, found[0].name, found[0].at) == (1, "git__log", NOON + timedelta(hours=1))
        assert (found[0].duration_ms, found[0].estimated_tokens, found[0].cost_usd) == (10, 100, 0.25)
        page, total = await usage.calls(
            session, admin.principal, CallFilter(until=NOON + timedelta(seconds=50), since=NOON), limit=10, offset=45
        )
        assert (total, len(page)) == (50, 5)
        with pytest.raises(Forbidden, match="usage:read"):
            await usage.calls(session, Principal(week, "u", "user", frozenset()), CallFilter())


async def test_changes_and_calls_are_one_log(
    database: Database, usage: UsageService, admin: Person, clock: SettableClock, week: str
) -> None:
    audit = AuditService(clock)
    for number in range(3):
        # At the very times of calls, so that pages must order what is equal.
        clock.set(NOON + timedelta(seconds=number))
        async with database.transaction() as session:
            await audit.record(session, admin.principal, f"servers.do{number}", target=("server", "=1+1"))
    log = AuditLog(database, [Changes(), Calls()])

    async def pages(limit: int, wanted: LogFilter) -> list[str]:
        seen: list[str] = []
        cursor = None
        while True:
            async with database.reading() as session:
                page, cursor = await log.search(session, admin.principal, wanted, limit=limit, cursor=cursor)
            seen += [entry.kind + entry.id for entry in page]
            if cursor is None:
                return seen

    everything = await pages(500, LogFilter())
    assert len(everything) == len(set(everything)) == 105
    for limit in (1, 7, 105):
        assert await pages(limit, LogFilter()) == everything
    assert len(await pages(50, LogFilter(action="servers.*"))) == 3
    assert len(await pages(50, LogFilter(action="servers.do1"))) == 1
    assert len(await pages(50, LogFilter(principal="key:7"))) == 1
    assert len(await pages(50, LogFilter(principal=admin.principal.subject))) == 3
    assert len(await pages(50, LogFilter(kind="calls", outcome="denied"))) == 1
    assert len(await pages(50, LogFilter(since=NOON, until=NOON + timedelta(seconds=2)))) == 4
    async with database.reading() as session:
        with pytest.raises(Forbidden, match="audit:read"):
            await log.search(session, Principal(week, "u", "user", frozenset()), LogFilter())
        with pytest.raises(Invalid, match="cursor"):
            await log.search(session, admin.principal, LogFilter(), cursor="x")


async def test_the_export_holds_every_record_and_no_formula(
    database: Database, usage: UsageService, admin: Person, clock: SettableClock, week: str
) -> None:
    async with database.transaction() as session:
        await AuditService(clock).record(session, admin.principal, "servers.create", target=("server", "=1+1"))
    log = AuditLog(database, [Changes(), Calls()])
    lines = b"".join([piece async for piece in log.export(admin.principal, LogFilter(), "jsonl")]).splitlines()
    assert len(lines) == 103
    assert {json.loads(line)["kind"] for line in lines} == {"changes", "calls"}
    text = b"".join([piece async for piece in log.export(admin.principal, LogFilter(), "csv")]).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 103
    assert [row["target_id"] for row in rows if row["kind"] == "changes"] == ["'=1+1"]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
