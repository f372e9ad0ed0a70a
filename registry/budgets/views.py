"""Budgets as callers see them: the documents' fields and our own. REST, MCP tools and the command line show the same.

Source: `mission-control.md`, Budget & Analytics and Budget Limits; own fields `unit`, `amount`, `spent`, `reserved`,
`resets_at`, `paused_at`. Fractions are called `percentage`, as there.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel

from registry.budgets.models import BudgetLimit, BudgetPeriod
from registry.budgets.units import from_parts, unit_named
from registry.budgets.windows import Window

PERIOD_WORDS = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}


class LimitView(BaseModel):
    """`amount_usd` is empty where the unit is another. `spent` and `reserved` are of the present period."""

    id: str
    name: str
    scope_type: str
    scope_id: str | None
    amount_usd: float | None
    amount: float
    unit: str
    period: str
    alert_threshold: float
    action_on_exceed: str
    spent: float
    reserved: float
    percentage: float
    starts_at: datetime
    resets_at: datetime
    paused: bool
    paused_at: datetime | None
    created_at: datetime
    updated_at: datetime


class LimitPage(BaseModel):
    items: list[LimitView]
    total: int
    page: int
    pages: int


class TimezoneView(BaseModel):
    """In which days, weeks and months begin, of limits and of what is told of spending."""

    timezone: str


class Spending(BaseModel):
    """`limit` is the lowest dollar limit of the organisation for this period, if it has one."""

    spent: float
    limit: float | None
    percentage: float


class Alert(BaseModel):
    type: Literal["warning", "critical"]
    message: str
    limit_id: str


class Summary(BaseModel):
    today: Spending
    week: Spending
    month: Spending
    alerts: list[Alert]


class Spender(BaseModel):
    id: str
    name: str
    spent: float
    calls: int


class Spenders(BaseModel):
    """`unassigned` was spent by nobody of the kind that was asked for."""

    start_date: date
    end_date: date
    items: list[Spender]
    total: float
    unassigned: float


class TimelinePoint(BaseModel):
    """`date` is the first day of the day, week or month."""

    date: date
    spent: float
    calls: int


class Timeline(BaseModel):
    start_date: date
    end_date: date
    granularity: str
    timezone: str
    items: list[TimelinePoint]
    total: float


class ToolPriceView(BaseModel):
    server_id: str
    tool: str
    price_usd: float | None


def limit_view(limit: BudgetLimit, period: BudgetPeriod | None, window: Window) -> LimitView:
    """A limit with its ledger of the present window, where there is one yet."""
    unit = unit_named(limit.unit)
    spent = period.spent + period.overrun if period else 0
    amount = from_parts(unit, limit.amount)
    return LimitView(
        id=limit.id,
        name=limit.name,
        scope_type=limit.scope_type,
        scope_id=limit.scope_id,
        amount_usd=amount if unit == "usd" else None,
        amount=amount,
        unit=unit,
        period=PERIOD_WORDS[limit.period],
        alert_threshold=limit.alert_threshold,
        action_on_exceed=limit.action,
        spent=from_parts(unit, spent),
        reserved=from_parts(unit, period.reserved if period else 0),
        percentage=round(spent / limit.amount, 6) if limit.amount else 1.0,
        starts_at=window.starts_at,
        resets_at=window.ends_at,
        paused=limit.paused_at is not None,
        paused_at=limit.paused_at,
        created_at=limit.created_at,
        updated_at=limit.updated_at,
    )


def limit_alert(limit: BudgetLimit, period: BudgetPeriod) -> Alert | None:
    """What there is to tell of a limit in this period."""
    used = period.spent + period.overrun
    unit = unit_named(limit.unit)
    if not limit.paused_at and used < limit.alert_threshold * limit.amount and period.told == 0:
        return None
    share = used / limit.amount if limit.amount else 1.0
    spent = f"{from_parts(unit, used):g} of {from_parts(unit, limit.amount):g} {unit}"
    what = "is paused" if limit.paused_at else f"at {share:.0%} of its {PERIOD_WORDS[limit.period]} amount"
    critical = limit.paused_at is not None or used >= limit.amount or period.told >= 1000
    message = f"Budget limit {limit.name!r} {what} ({spent})"
    return Alert(type="critical" if critical else "warning", message=message, limit_id=limit.id)
