"""Periods in the organisation's own calendar, also where months end and clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.budgets.errors import BudgetExceeded, LimitInvalid
from registry.budgets.queries import StoredTerms
from registry.budgets.windows import PERIODS, Period, window_at
from registry.core.db import Database
from registry.core.events import EventBus
from tests.registry.budgets.house import furnish

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana")


@pytest.mark.parametrize(
    ("zone", "period", "moment", "starts", "ends"),
    [
        ("UTC", "hour", "2026-11-22T12:34:56", "2026-11-22T12:00", "2026-11-22T13:00"),
        ("Asia/Kolkata", "hour", "2026-11-22T12:34", "2026-11-22T12:30", "2026-11-22T13:30"),
        ("Europe/Berlin", "day", "2026-11-22T22:59:59", "2026-11-21T23:00", "2026-11-22T23:00"),
        ("Europe/Berlin", "day", "2026-11-22T23:00", "2026-11-22T23:00", "2026-11-23T23:00"),
        # 23 and 25 hours: clocks go forward on 29 March and back on 25 October.
        ("Europe/Berlin", "day", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", "day", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        # The hour from 2 to 3 comes twice, and is two windows.
        ("Europe/Berlin", "hour", "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("Europe/Berlin", "hour", "2026-10-25T01:30", "2026-10-25T01:00", "2026-10-25T02:00"),
        # Midnight itself is skipped in March, and comes twice in November.
        ("America/Havana", "day", "2026-03-08T12:00", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("America/Havana", "day", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("UTC", "week", "2026-11-22T12:00", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("UTC", "week", "2027-01-01T12:00", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("America/New_York", "month", "2026-03-01T04:59", "2026-02-01T05:00", "2026-03-01T05:00"),
        ("America/New_York", "month", "2026-03-01T05:00", "2026-03-01T05:00", "2026-04-01T04:00"),
        ("UTC", "month", "2028-02-29T23:59:59", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("UTC", "month", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_windows(zone: str, period: Period, moment: str, starts: str, ends: str) -> None:
    window = window_at(period, _utc(moment), ZoneInfo(zone))
    assert (window.starts_at, window.ends_at) == (_utc(starts), _utc(ends))


@given(
    st.sampled_from(ZONES),
    st.sampled_from(PERIODS),
    st.integers(1_577_836_800, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_a_moment_is_within_its_window_and_the_next_begins_where_it_ends(
    zone: str, period: Period, moment: datetime
) -> None:
    window = window_at(period, moment, ZoneInfo(zone))
    assert window.starts_at <= moment < window.ends_at
    last = window_at(period, window.ends_at - timedelta(microseconds=1), ZoneInfo(zone))
    assert last.ends_at == window.ends_at
    assert window_at(period, window.ends_at, ZoneInfo(zone)).ends_at > window.ends_at


async def test_a_new_period_begins_where_the_organisation_is(database: Database, events: EventBus) -> None:
    house = await furnish(database, events)
    async with database.transaction() as session:
        with pytest.raises(LimitInvalid, match="Middle/Earth"):
            await house.service.set_timezone(session, house.admin.principal, "Middle/Earth")
    house.clock.set(_utc("2026-10-24T22:30"))
    limit = await house.limit(1)
    assert limit.resets_at == _utc("2026-10-25T00:00")
    before = await StoredTerms(database).signature()
    async with database.transaction() as session:
        made = await house.service.set_timezone(session, house.admin.principal, "Europe/Berlin")
        assert made == await house.service.timezone(session, house.admin.principal)
    assert await StoredTerms(database).signature() != before, "other processes do not see it"
    (limit,) = await house.limits()
    assert limit.resets_at == _utc("2026-10-25T23:00")
    desk = await house.desk()
    await house.reserve(desk)
    house.clock.set(_utc("2026-10-25T22:59:59"))
    with pytest.raises(BudgetExceeded):
        await house.reserve(desk)
    house.clock.set(_utc("2026-10-25T23:00"))
    await house.reserve(desk)
    (shown,) = await house.limits()
    assert (shown.reserved, shown.resets_at) == (1, _utc("2026-10-26T23:00"))


async def test_a_call_over_the_end_of_a_period_is_booked_where_it_began(database: Database, events: EventBus) -> None:
    house = await furnish(database, events)
    await house.limit(5, period="monthly")
    house.clock.set(_utc("2026-11-30T23:59:59"))
    desk = await house.desk()
    held = await house.reserve(desk)
    before = await house.limits()
    house.clock.set(_utc("2026-12-01T00:00"))
    (after,) = await house.limits()
    assert (before[0].reserved, after.reserved) == (1, 0)
    desk.settle(held, 0.0, 1)
    await desk.tick()
    house.clock.set(_utc("2026-11-30T23:59:59"))
    (november,) = await house.limits()
    assert (november.spent, november.reserved) == (1, 0)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
