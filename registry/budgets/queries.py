"""All SQL of limits and spending. Queries for callers start from `live_limits` or `spent_calls`, scoped by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, Select, func, select, update

from registry.budgets.desk import Terms
from registry.budgets.models import BudgetLimit, BudgetPeriod
from registry.budgets.units import unit_named
from registry.budgets.windows import Window, period_named, zone_named
from registry.core.db import Database, Session, as_uuid
from registry.identity.models import Organization
from registry.identity.principal import Principal
from registry.teams import queries as teams
from registry.usage.models import CallRecord

QUARTER = 15 * 60
"""Seconds. Every time zone's days begin on a quarter of an hour."""


def live_limits(principal: Principal) -> Select[BudgetLimit]:
    """Limits that exist for this principal: its organisation's."""
    return select(BudgetLimit).where(BudgetLimit.org_id == principal.org_id, BudgetLimit.deleted_at.is_(None))


async def find(session: Session, principal: Principal, limit_id: str) -> BudgetLimit | None:
    """A limit, locked, for whoever changes it."""
    return await session.scalar(live_limits(principal).where(BudgetLimit.id == as_uuid(limit_id)).with_for_update())


async def page(session: Session, principal: Principal, limit: int, offset: int) -> tuple[Sequence[BudgetLimit], int]:
    query = live_limits(principal)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    query = query.order_by(BudgetLimit.created_at, BudgetLimit.id).limit(limit).offset(offset)
    return (await session.scalars(query)).all(), total or 0


async def period_of(session: Session, limit_id: str, window: Window) -> BudgetPeriod | None:
    return await session.scalar(
        select(BudgetPeriod).where(
            BudgetPeriod.limit_id == limit_id,
            BudgetPeriod.period == window.period,
            BudgetPeriod.starts_at == window.starts_at,
        )
    )


async def timezone_of(session: Session, org_id: str) -> str:
    return (await session.execute(select(Organization.timezone).where(Organization.id == org_id))).scalar_one()


async def set_timezone(session: Session, org_id: str, name: str) -> None:
    """Every limit of the organisation counts as changed, so that all processes see it."""
    await session.execute(update(Organization).where(Organization.id == org_id).values(timezone=name))
    limits = update(BudgetLimit).where(BudgetLimit.org_id == org_id).values(version=BudgetLimit.version + 1)
    await session.execute(limits.execution_options(synchronize_session=False))


def _spent_calls(principal: Principal, since: datetime, until: datetime) -> Select[float, int]:
    return select(func.coalesce(func.sum(CallRecord.cost_usd), 0.0), func.count()).where(
        CallRecord.org_id == principal.org_id,
        CallRecord.at >= _micros(since),
        CallRecord.at < _micros(until),
        CallRecord.cost_usd > 0,
    )


async def spent(session: Session, principal: Principal, since: datetime, until: datetime) -> float:
    """Dollars spent by all calls of the organisation."""
    return round(float((await session.execute(_spent_calls(principal, since, until))).one()[0]), 9)


async def spent_by_quarter(
    session: Session, principal: Principal, since: datetime, until: datetime
) -> Sequence[Row[int, float, int]]:
    """Quarter of an hour since the epoch, dollars and calls."""
    quarter = (CallRecord.at // (QUARTER * 1_000_000)).label("quarter")
    query = _spent_calls(principal, since, until)
    grouped = query.with_only_columns(quarter, func.sum(CallRecord.cost_usd), func.count()).group_by(quarter)
    return (await session.execute(grouped)).all()


def _micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


class StoredTerms:
    """The limits of all organisations, as the desk needs them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def signature(self) -> object:
        """Changes with every limit and team that is added, changed or removed: rows stay, their versions only grow."""
        async with self._database.reading() as session:
            found = await session.execute(select(func.count(), func.sum(BudgetLimit.version)).select_from(BudgetLimit))
            return (*found.one(), await teams.signature(session))

    async def load(self) -> Sequence[Terms]:
        query = (
            select(BudgetLimit, Organization.timezone)
            .join(Organization, Organization.id == BudgetLimit.org_id)
            .where(BudgetLimit.deleted_at.is_(None))
            .order_by(BudgetLimit.created_at, BudgetLimit.id)
        )
        async with self._database.reading() as session:
            found = (await session.execute(query)).all()
            members: dict[str, set[str]] = {}
            if any(limit.scope_type == "team" for limit, _ in found):
                for _, team_id, user_id in await teams.memberships(session, None):
                    members.setdefault(f"team:{team_id}", set()).add(user_id)
        return [_terms(limit, zone, frozenset(members.get(limit.scope_key, ()))) for limit, zone in found]


def _terms(limit: BudgetLimit, zone: str, members: frozenset[str]) -> Terms:
    return Terms(
        id=limit.id,
        org_id=limit.org_id,
        name=limit.name,
        scope_key=limit.scope_key,
        unit=unit_named(limit.unit),
        period=period_named(limit.period),
        zone=zone_named(zone),
        paused=limit.paused_at is not None,
        members=members,
    )
