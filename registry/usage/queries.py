"""Queries over the records of calls: filters, sums, groups and percentiles, alike on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, cast, func, literal, select

from registry.core.db import Session
from registry.identity.principal import Principal
from registry.usage.models import CallRecord
from registry.usage.views import GroupBy, UsageGroup, time_of, tokens

_US = 1_000_000
_STEPS = {"hour": 3600 * _US, "day": 86_400 * _US}
_PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls; `None` is any.

    Args:
        since, until: when they began, the first included.
        server: slug.
        name: of the tool or prompt as callers know it, or the resource's URI.
    """

    since: datetime | None = None
    until: datetime | None = None
    server: str | None = None
    name: str | None = None
    outcome: str | None = None
    user_id: str | None = None
    key_id: int | None = None
    method: str | None = None


def microseconds(at: datetime) -> int:
    return round(at.timestamp() * _US)


def conditions(principal: Principal, wanted: CallFilter) -> list[ColumnElement[bool]]:
    """The filter within the caller's organisation."""
    found: list[ColumnElement[bool]] = [CallRecord.org_id == principal.org_id]
    if wanted.since is not None:
        found.append(CallRecord.at >= microseconds(wanted.since))
    if wanted.until is not None:
        found.append(CallRecord.at < microseconds(wanted.until))
    for column, value in (
        (CallRecord.server_slug, wanted.server),
        (CallRecord.name, wanted.name),
        (CallRecord.outcome, wanted.outcome),
        (CallRecord.user_id, wanted.user_id),
        (CallRecord.key_id, wanted.key_id),
        (CallRecord.method, wanted.method),
    ):
        if value is not None:
            found.append(column == value)
    return found


async def grouped(
    session: Session, principal: Principal, wanted: CallFilter, by: GroupBy | None, limit: int
) -> list[UsageGroup]:
    """Usage by group: the newest hours or days, else the groups with the most calls. `by` nothing: all as one group."""
    key = _key(by)
    calls = func.count().label("calls")
    sums = (
        select(
            key.label("key"),
            calls,
            func.sum(case((CallRecord.outcome != "ok", 1), else_=0)),
            func.sum(CallRecord.bytes_in),
            func.sum(CallRecord.bytes_out),
            func.sum(CallRecord.cost_usd),
            func.avg(CallRecord.duration_us),
            func.max(CallRecord.duration_us),
        )
        .where(*conditions(principal, wanted))
        .group_by(key)
        .order_by(key.desc() if by in _STEPS else calls.desc(), key)
        .limit(limit)
    )
    rows = (await session.execute(sums)).all()
    if not rows:
        return []
    ranks = await _percentiles(session, principal, wanted, key)
    return [_group(row, by, ranks.get(row[0], {})) for row in rows]


def _key(by: GroupBy | None) -> ColumnElement[Any]:
    if by in _STEPS:
        # Inlined: the database must see the same expression in each clause.
        return CallRecord.at - CallRecord.at % literal(_STEPS[by], literal_execute=True)
    columns: dict[GroupBy | None, ColumnElement[Any]] = {
        "server": CallRecord.server_slug.expression,
        "tool": CallRecord.name.expression,
        "user": CallRecord.user_id.expression,
        "key": CallRecord.key_id.expression,
        "outcome": CallRecord.outcome.expression,
    }
    return columns.get(by, cast(literal("", literal_execute=True), String))


async def _percentiles(
    session: Session, principal: Principal, wanted: CallFilter, key: ColumnElement[Any]
) -> dict[Any, dict[int, int]]:
    """For each group, the duration at each of `_PERCENTS`: the nearest rank, which both databases can tell."""
    ranked = (
        select(
            key.label("key"),
            CallRecord.duration_us.label("duration"),
            func.row_number().over(partition_by=key, order_by=CallRecord.duration_us).label("rank"),
            func.count().over(partition_by=key).label("of"),
        )
        .where(*conditions(principal, wanted))
        .subquery()
    )
    picks = [
        func.max(case((ranked.c.rank == (ranked.c.of * percent + 99) // 100, ranked.c.duration)))
        for percent in _PERCENTS
    ]
    rows = await session.execute(select(ranked.c.key, *picks).group_by(ranked.c.key))
    return {row[0]: dict(zip(_PERCENTS, row[1:], strict=True)) for row in rows}


def _group(row: Any, by: GroupBy | None, ranks: dict[int, int]) -> UsageGroup:
    key, calls, errors, bytes_in, bytes_out, cost, average, longest = row
    percentiles = {f"duration_ms_p{percent}": duration / 1000 for percent, duration in ranks.items()}
    return UsageGroup(
        key=time_of(key).isoformat() if by in _STEPS else None if key is None else str(key),
        calls=calls,
        errors=errors,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        estimated_tokens=tokens(int(bytes_in + bytes_out)),
        cost_usd=cost,
        duration_ms_avg=float(average) / 1000,
        duration_ms_max=longest / 1000,
        **percentiles,
    )


def newest(principal: Principal, wanted: CallFilter) -> Select[CallRecord]:
    return select(CallRecord).where(*conditions(principal, wanted)).order_by(CallRecord.id.desc())


async def count(session: Session, principal: Principal, wanted: CallFilter) -> int:
    found = await session.scalar(select(func.count()).select_from(CallRecord).where(*conditions(principal, wanted)))
    return found or 0


async def page(
    session: Session, principal: Principal, wanted: CallFilter, limit: int, offset: int
) -> Sequence[CallRecord]:
    return (await session.scalars(newest(principal, wanted).limit(limit).offset(offset))).all()
