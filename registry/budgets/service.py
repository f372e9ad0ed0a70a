"""Budgets: set, change and remove limits, and tell what was spent.

One method per operation; REST, MCP tools and the command line call the same ones. Whether a call passes is decided by
`registry.budgets.desk`, and what was used is kept by `registry.budgets.ledger`; this module only tells of it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from registry.audit.service import AuditService
from registry.budgets import queries
from registry.budgets.errors import LimitInvalid, LimitNotFound
from registry.budgets.events import LimitsChanged
from registry.budgets.ledger import reached
from registry.budgets.models import BudgetLimit
from registry.budgets.scopes import SCOPES, Find, ScopeType, find_scope
from registry.budgets.units import Unit, from_parts, to_parts, unit_named
from registry.budgets.views import (
    Alert,
    LimitPage,
    LimitView,
    Spender,
    Spenders,
    Spending,
    Summary,
    Timeline,
    TimelinePoint,
    TimezoneView,
    limit_alert,
    limit_view,
)
from registry.budgets.windows import (
    Period,
    Window,
    first_day,
    midnight,
    next_first_day,
    period_named,
    window_at,
    zone_known,
    zone_named,
)
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.core.errors import GatehouseError
from registry.identity.principal import Principal

Action = Literal["warn", "block", "pause"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Granularity = Literal["day", "week", "month"]
PeriodName = Literal["hourly", "daily", "weekly", "monthly", "hour", "day", "week", "month"]

_PERIODS: dict[PeriodName, Period] = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "hour": "hour",
    "day": "day",
    "week": "week",
    "month": "month",
}
TIMELINE_DAYS = 30
"""How far a question goes back that does not say since when."""
MOST_POINTS = 1000


class RangeInvalid(GatehouseError):
    status = 400
    code = "VALIDATION_ERROR"
    title = "Validation Error"


@dataclass(frozen=True, slots=True)
class NewLimit:
    """What a caller says of a limit. `amount` is in the limit's unit."""

    name: str
    amount: float
    scope_type: ScopeType = "organization"
    scope_id: str | None = None
    unit: Unit = "usd"
    period: PeriodName = "daily"
    alert_threshold: float = 0.8
    action_on_exceed: Action = "warn"


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """New values; `None` leaves a field as it is.

    Args:
        amount_unit: what the caller takes the amount to be in, if it said so.
    """

    name: str | None = None
    amount: float | None = None
    amount_unit: Unit | None = None
    period: PeriodName | None = None
    alert_threshold: float | None = None
    action_on_exceed: Action | None = None


FindSpenders = Callable[[Session, Principal, datetime, datetime], Awaitable[Sequence[Spender]]]
"""Who of one kind spent what between two moments."""


@dataclass(frozen=True, slots=True)
class Domains:
    """What other features bring to budgets, by the kind of thing they own.

    Args:
        scopes: what limits can be for.
        spenders: whose spending can be told apart.
    """

    scopes: Mapping[ScopeType, Find] = field(default_factory=lambda: SCOPES)
    spenders: Mapping[ScopeType, FindSpenders] = field(default_factory=dict[ScopeType, FindSpenders])


class BudgetService:
    """Operations on limits. Every method checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService, domains: Domains | None = None) -> None:
        self._clock = clock
        self._audit = audit
        self._domains = domains or Domains()

    # -- limits

    async def create_limit(self, session: Session, principal: Principal, new: NewLimit) -> LimitView:
        """Set a limit; calls are counted from now on.

        Raises:
            LimitInvalid: a scope that does not exist, or an impossible amount.
            GlobalNeedsOperator: see there.
        """
        principal.require("budgets:manage")
        scope = await find_scope(self._domains.scopes, session, principal, new.scope_type, new.scope_id)
        now = self._clock.now()
        limit = BudgetLimit(
            org_id=principal.org_id,
            name=_name(new.name),
            scope_type=new.scope_type,
            scope_id=scope.id,
            scope_key=scope.key,
            unit=new.unit,
            amount=to_parts(new.unit, new.amount),
            period=_PERIODS[new.period],
            action=new.action_on_exceed,
            alert_threshold=_threshold(new.alert_threshold),
            created_at=now,
            updated_at=now,
            version=1,
        )
        session.add(limit)
        await session.flush()
        await self._changed(session, principal, "budgets.limits.create", limit)
        return await self._view(session, limit)

    async def limits(self, session: Session, principal: Principal, *, page: int = 1, limit: int = 20) -> LimitPage:
        principal.require("budgets:read")
        rows, total = await queries.page(session, principal, limit, (page - 1) * limit)
        views = [await self._view(session, row) for row in rows]
        return LimitPage(items=views, total=total, page=page, pages=math.ceil(total / limit))

    async def update_limit(
        self, session: Session, principal: Principal, limit_id: str, changes: LimitChanges
    ) -> LimitView:
        principal.require("budgets:manage")
        limit = await self._find(session, principal, limit_id)
        unit = _unit(limit)
        if changes.name is not None:
            limit.name = _name(changes.name)
        if changes.amount_unit not in (None, unit):
            raise LimitInvalid(f"This limit is in {unit}: give amount.", field="amount_usd")
        if changes.amount is not None:
            limit.amount = to_parts(unit, changes.amount)
        if changes.period is not None:
            limit.period = _PERIODS[changes.period]
        if changes.alert_threshold is not None:
            limit.alert_threshold = _threshold(changes.alert_threshold)
        if changes.action_on_exceed is not None:
            limit.action = changes.action_on_exceed
            if limit.action != "pause":
                limit.paused_at = None
        period = await queries.period_of(session, limit.id, await self._window(session, limit))
        if period is not None:
            # What is no longer reached may be told again.
            period.told = min(period.told, reached(limit, period.spent + period.overrun))
        await self._changed(session, principal, "budgets.limits.update", limit)
        return await self._view(session, limit)

    async def delete_limit(self, session: Session, principal: Principal, limit_id: str) -> LimitView:
        """Remove a limit; its ledger is kept."""
        principal.require("budgets:manage")
        limit = await self._find(session, principal, limit_id)
        limit.deleted_at = self._clock.now()
        await self._changed(session, principal, "budgets.limits.delete", limit)
        return await self._view(session, limit)

    async def resume_limit(self, session: Session, principal: Principal, limit_id: str) -> LimitView:
        """Open a limit that paused itself. One that is still used up pauses again with the next call."""
        principal.require("budgets:manage")
        limit = await self._find(session, principal, limit_id)
        limit.paused_at = None
        await self._changed(session, principal, "budgets.limits.resume", limit)
        return await self._view(session, limit)

    # -- the calendar

    async def timezone(self, session: Session, principal: Principal) -> TimezoneView:
        principal.require("budgets:read")
        return TimezoneView(timezone=await queries.timezone_of(session, principal.org_id))

    async def set_timezone(self, session: Session, principal: Principal, name: str) -> TimezoneView:
        """Say in which time zone the organisation's days begin. Present periods begin anew where that differs.

        Raises:
            LimitInvalid: there is no time zone of this name.
        """
        principal.require("budgets:manage")
        if not zone_known(name):
            raise LimitInvalid(f"There is no time zone {name!r}: write one like Europe/Berlin.", field="timezone")
        await queries.set_timezone(session, principal.org_id, name)
        emit(session, LimitsChanged(principal.org_id))
        target = ("organization", principal.org_id)
        await self._audit.record(session, principal, "budgets.timezone", target=target, detail={"timezone": name})
        return TimezoneView(timezone=name)

    # -- spending

    async def summary(self, session: Session, principal: Principal) -> Summary:
        """What the organisation spent today, this week and this month, and which limits are close."""
        principal.require("budgets:read")
        now, zone = self._clock.now(), await self._zone(session, principal.org_id)
        limits = (await session.scalars(queries.live_limits(principal))).all()
        shown: dict[Period, Spending] = {}
        for period in ("day", "week", "month"):
            lowest = min((row.amount for row in limits if _for_all(row) and row.period == period), default=None)
            spent = await queries.spent(session, principal, window_at(period, now, zone).starts_at, _after(now))
            limit = None if lowest is None else from_parts("usd", lowest)
            shown[period] = Spending(spent=spent, limit=limit, percentage=round(spent / limit, 6) if limit else 0.0)
        alerts: list[Alert] = []
        for row in limits:
            ledger = await queries.period_of(session, row.id, window_at(_period(row), now, zone))
            if ledger is not None and (alert := limit_alert(row, ledger)) is not None:
                alerts.append(alert)
        return Summary(today=shown["day"], week=shown["week"], month=shown["month"], alerts=alerts)

    async def spenders(
        self,
        session: Session,
        principal: Principal,
        kind: Literal["project", "agent"],
        start: date | None = None,
        end: date | None = None,
    ) -> Spenders:
        """What was spent by each project or agent, on the days from `start` to `end`."""
        principal.require("budgets:read")
        zone = await self._zone(session, principal.org_id)
        start, end = self._range(zone, start, end)
        since, until = midnight(start, zone), midnight(end + timedelta(days=1), zone)
        total = await queries.spent(session, principal, since, until)
        find = self._domains.spenders.get(kind)
        items = list(await find(session, principal, since, until)) if find is not None else []
        unassigned = max(0.0, round(total - sum(item.spent for item in items), 9))
        return Spenders(start_date=start, end_date=end, items=items, total=total, unassigned=unassigned)

    async def timeline(
        self,
        session: Session,
        principal: Principal,
        start: date | None = None,
        end: date | None = None,
        granularity: Granularity = "day",
    ) -> Timeline:
        """What was spent on each day, or in each week or month, from `start` to `end`; also where it was nothing."""
        principal.require("budgets:read")
        zone = await self._zone(session, principal.org_id)
        start, end = self._range(zone, start, end)
        points: dict[date, tuple[float, int]] = {}
        first = first_day(granularity, start)
        while first <= end:
            points[first] = (0.0, 0)
            first = next_first_day(granularity, first)
            if len(points) > MOST_POINTS:
                raise RangeInvalid(f"That is more than {MOST_POINTS} points: ask for fewer days, or weeks or months.")
        since, until = midnight(start, zone), midnight(end + timedelta(days=1), zone)
        for quarter, spent, calls in await queries.spent_by_quarter(session, principal, since, until):
            local = datetime.fromtimestamp(quarter * queries.QUARTER, UTC).astimezone(zone).date()
            day = first_day(granularity, local)
            points[day] = (points[day][0] + spent, points[day][1] + calls)
        items = [TimelinePoint(date=day, spent=round(spent, 9), calls=calls) for day, (spent, calls) in points.items()]
        return Timeline(
            start_date=start,
            end_date=end,
            granularity=granularity,
            timezone=zone.key,
            items=items,
            total=round(sum(item.spent for item in items), 9),
        )

    # -- inside

    async def _find(self, session: Session, principal: Principal, limit_id: str) -> BudgetLimit:
        limit = await queries.find(session, principal, limit_id)
        if limit is None:
            raise LimitNotFound
        if limit.scope_type == "global":
            # The same condition as for setting one.
            await find_scope(self._domains.scopes, session, principal, "global", None)
        return limit

    async def _changed(self, session: Session, principal: Principal, action: str, limit: BudgetLimit) -> None:
        limit.updated_at = self._clock.now()
        limit.version += 1
        emit(session, LimitsChanged(limit.org_id))
        unit = _unit(limit)
        detail = {
            "name": limit.name,
            "scope": f"{limit.scope_type}:{limit.scope_id or '*'}",
            "amount": from_parts(unit, limit.amount),
            "unit": unit,
            "period": limit.period,
            "action_on_exceed": limit.action,
        }
        await self._audit.record(session, principal, action, target=("budget_limit", limit.id), detail=detail)

    async def _view(self, session: Session, limit: BudgetLimit) -> LimitView:
        window = await self._window(session, limit)
        return limit_view(limit, await queries.period_of(session, limit.id, window), window)

    async def _window(self, session: Session, limit: BudgetLimit) -> Window:
        return window_at(_period(limit), self._clock.now(), await self._zone(session, limit.org_id))

    async def _zone(self, session: Session, org_id: str) -> ZoneInfo:
        return zone_named(await queries.timezone_of(session, org_id))

    def _range(self, zone: ZoneInfo, start: date | None, end: date | None) -> tuple[date, date]:
        today = self._clock.now().astimezone(zone).date()
        end = end or max(today, start or today)
        start = start or end - timedelta(days=TIMELINE_DAYS - 1)
        if not date(1970, 1, 2) <= start <= end <= date(9990, 1, 1):
            raise RangeInvalid("start_date must not be after end_date, and both within the calendar.")
        return start, end


def _after(now: datetime) -> datetime:
    """Past whatever has been recorded by now."""
    return now + timedelta(seconds=1)


def _name(name: str) -> str:
    if not name.strip():
        raise LimitInvalid("A limit needs a name.", field="name")
    return name.strip()


def _threshold(value: float) -> float:
    if not 0 < value <= 1:
        raise LimitInvalid("The threshold is a fraction above 0, at most 1.", field="alert_threshold")
    return value


def _for_all(limit: BudgetLimit) -> bool:
    return limit.unit == "usd" and limit.scope_type in ("global", "organization")


def _unit(limit: BudgetLimit) -> Unit:
    return unit_named(limit.unit)


def _period(limit: BudgetLimit) -> Period:
    return period_named(limit.period)
