"""Periods as the organisation's own calendar has them: hours, days, weeks from Monday, months, in its time zone.

A window is a span of real time. Days of 23 or 25 hours, where clocks change, are one window like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

log = structlog.get_logger(__name__)

Period = Literal["hour", "day", "week", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)

_NAMED: dict[str, Period] = {period: period for period in PERIODS}


@dataclass(frozen=True, slots=True)
class Window:
    """From `starts_at` until just before `ends_at`, both in UTC."""

    period: Period
    starts_at: datetime
    ends_at: datetime


def period_named(name: str) -> Period:
    """A period from a record."""
    return _NAMED[name]


def window_at(period: Period, moment: datetime, zone: ZoneInfo) -> Window:
    """The window of a period that holds a moment."""
    local = moment.astimezone(zone)
    if period == "hour":
        # Counted back in real time: the hour that is repeated when clocks go back is two windows.
        into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        start = moment.astimezone(UTC) - into
        return Window(period, start, start + timedelta(hours=1))
    first = first_day(period, local.date())
    return Window(period, midnight(first, zone), midnight(next_first_day(period, first), zone))


def first_day(period: Period, day: date) -> date:
    """The day on which the window of `day` begins."""
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def next_first_day(period: Period, first: date) -> date:
    if period == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if period == "week" else 1)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins; where clocks skip midnight, the moment at which they do."""
    return datetime.combine(day, clock_time(), zone).astimezone(UTC)


def zone_known(name: str) -> bool:
    """Whether this machine knows a time zone by this name."""
    try:
        return ZoneInfo(name).key == name
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def zone_named(name: str) -> ZoneInfo:
    """A time zone; UTC for a name that this machine does not know, since a limit must hold whatever it is called."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        log.warning("unknown time zone, using UTC", timezone=name)
        return ZoneInfo("UTC")
