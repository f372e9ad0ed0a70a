"""The history of health: rolls results of checks up, forgets old ones, and answers questions about them.

Full resolution is kept for two days, minutes for a week, five minutes for a month, hours for a year and more, days
for five years. A roll-up is made from the next finer one, and made anew as long as its time has not passed, so that
rolling up twice does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, case, delete, func, literal, select

from registry.core.db import Session, insert_into
from registry.health.models import HealthRollup, HealthSample

Granularity = Literal["1m", "5m", "1h", "1d"]
STEPS: dict[Granularity, int] = {"1m": 60, "5m": 300, "1h": 3600, "1d": 86_400}
KEEP_SAMPLES = timedelta(days=2)
KEEP: dict[Granularity, timedelta] = {
    "1m": timedelta(days=7),
    "5m": timedelta(days=31),
    "1h": timedelta(days=400),
    "1d": timedelta(days=5 * 366),
}
MOST_POINTS = 10_000
US = 1_000_000

_Rows = Select[str, int, int, int, int, float, float | None]
"""Server, beginning of the step, checks, failed, timed, sum and maximum of response times."""


def microseconds(at: datetime) -> int:
    return round(at.timestamp() * US)


@dataclass(frozen=True, slots=True)
class Sums:
    """Checks taken together.

    Args:
        at: when their time began, in microseconds since the epoch.
        timed: how many have a response time.
    """

    at: int
    checks: int
    failed: int
    timed: int
    response_sum_ms: float
    response_max_ms: float | None

    @property
    def average_ms(self) -> float | None:
        return round(self.response_sum_ms / self.timed, 2) if self.timed else None

    @property
    def uptime(self) -> float | None:
        return uptime_percentage(self.checks, self.failed)


def uptime_percentage(checks: int, failed: int) -> float | None:
    """`None` where nothing was checked."""
    return round(100 * (checks - failed) / checks, 3) if checks else None


def together(parts: Sequence[Sums]) -> Sums:
    longest = [part.response_max_ms for part in parts if part.response_max_ms is not None]
    return Sums(
        at=parts[0].at if parts else 0,
        checks=sum(part.checks for part in parts),
        failed=sum(part.failed for part in parts),
        timed=sum(part.timed for part in parts),
        response_sum_ms=sum(part.response_sum_ms for part in parts),
        response_max_ms=max(longest, default=None),
    )


def _bucket(column: Any, step: int) -> ColumnElement[int]:
    # Inlined: the database must see the same expression in each clause.
    width = literal(step * US, literal_execute=True)
    return column - column % width


def _sums_of_samples(step: int, since: int) -> _Rows:
    at = _bucket(HealthSample.at, step)
    known = HealthSample.response_time_ms.is_not(None)
    timed: ColumnElement[int] = case((known, 1), else_=0)
    taken: ColumnElement[float] = case((known, HealthSample.response_time_ms), else_=0.0)
    return (
        select(
            HealthSample.server_id,
            at.label("bucket"),
            func.count(),
            func.sum(HealthSample.failed),
            func.sum(timed),
            func.sum(taken),
            func.max(HealthSample.response_time_ms),
        )
        .where(HealthSample.counted == 1, HealthSample.at >= since)
        .group_by(HealthSample.server_id, at)
    )


def _sums_of_rollups(step: int, finer: int, since: int) -> _Rows:
    at = _bucket(HealthRollup.at, step)
    return (
        select(
            HealthRollup.server_id,
            at.label("bucket"),
            func.sum(HealthRollup.checks),
            func.sum(HealthRollup.failed),
            func.sum(HealthRollup.timed),
            func.sum(HealthRollup.response_sum_ms),
            func.max(HealthRollup.response_max_ms),
        )
        .where(HealthRollup.step == finer, HealthRollup.at >= since)
        .group_by(HealthRollup.server_id, at)
    )


async def roll_up(session: Session) -> None:
    """Bring the roll-ups up to the newest result."""
    finer: int | None = None
    names = ("server_id", "at", "checks", "failed", "timed", "response_sum_ms", "response_max_ms")
    for step in STEPS.values():
        newest = await session.scalar(select(func.max(HealthRollup.at)).where(HealthRollup.step == step))
        since = newest or 0
        sums = _sums_of_samples(step, since) if finer is None else _sums_of_rollups(step, finer, since)
        rows = sums.add_columns(literal(step, literal_execute=True))
        insert = insert_into(session, HealthRollup).from_select([*names, "step"], rows)
        fresh = {name: insert.excluded[name] for name in names[2:]}
        await session.execute(
            insert.on_conflict_do_update(
                index_elements=[HealthRollup.step, HealthRollup.server_id, HealthRollup.at], set_=fresh
            )
        )
        finer = step


async def forget(session: Session, now: datetime) -> None:
    """Remove what is older than it is kept."""
    await session.execute(delete(HealthSample).where(HealthSample.at < microseconds(now - KEEP_SAMPLES)))
    for granularity, kept in KEEP.items():
        old = HealthRollup.at < microseconds(now - kept)
        await session.execute(delete(HealthRollup).where(HealthRollup.step == STEPS[granularity], old))


async def sums(
    session: Session, server_id: str, step: int, start: datetime, end: datetime, now: datetime
) -> list[Sums]:
    """A server's checks by step of time, the oldest first: from the results themselves as long as they are kept."""
    since, until = microseconds(start), microseconds(end)
    since -= since % (step * US)
    if start >= now - KEEP_SAMPLES + timedelta(hours=1):
        found = _sums_of_samples(step, since).where(HealthSample.server_id == server_id, HealthSample.at <= until)
        rows = (await session.execute(found.order_by(_bucket(HealthSample.at, step)))).all()
        return [Sums(at, checks, failed, timed, total, most) for _, at, checks, failed, timed, total, most in rows]
    stored = (
        select(HealthRollup)
        .where(
            HealthRollup.step == step,
            HealthRollup.server_id == server_id,
            HealthRollup.at >= since,
            HealthRollup.at <= until,
        )
        .order_by(HealthRollup.at)
    )
    return [
        Sums(row.at, row.checks, row.failed, row.timed, row.response_sum_ms, row.response_max_ms)
        for row in await session.scalars(stored)
    ]


async def samples(session: Session, server_id: str, start: datetime, end: datetime) -> list[HealthSample]:
    """A server's results in full resolution, the oldest first; the newest `MOST_POINTS` at most."""
    found = select(HealthSample).where(
        HealthSample.server_id == server_id,
        HealthSample.at >= microseconds(start),
        HealthSample.at <= microseconds(end),
        HealthSample.counted == 1,
    )
    rows = (await session.scalars(found.order_by(HealthSample.at.desc()).limit(MOST_POINTS))).all()
    return list(reversed(rows))


async def uptime(session: Session, server_id: str, now: datetime) -> float | None:
    """The share of the last day's checks that succeeded, in percent."""
    found = select(func.count(), func.coalesce(func.sum(HealthSample.failed), 0)).where(
        HealthSample.server_id == server_id,
        HealthSample.at >= microseconds(now - timedelta(days=1)),
        HealthSample.counted == 1,
    )
    checks, failed = (await session.execute(found)).one()
    return uptime_percentage(checks, int(failed))


@dataclass(frozen=True, slots=True)
class DayOfServer:
    """A server's checks of the last day, and when the first of them was, to the hour."""

    server_id: str
    since: datetime
    checks: int
    failed: int


async def last_day(session: Session, now: datetime) -> list[DayOfServer]:
    """Of all servers."""
    found = (
        select(
            HealthRollup.server_id,
            func.min(HealthRollup.at),
            func.sum(HealthRollup.checks),
            func.sum(HealthRollup.failed),
        )
        .where(HealthRollup.step == STEPS["1h"], HealthRollup.at >= microseconds(now - timedelta(days=1)))
        .group_by(HealthRollup.server_id)
    )
    rows = (await session.execute(found)).all()
    return [
        DayOfServer(server_id, datetime.fromtimestamp(since / US, UTC), int(checks), int(failed))
        for server_id, since, checks, failed in rows
    ]
