"""The review of uptime: an alert where fewer of the last day's checks succeeded than a server's threshold says."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from registry.core.db import Session
from registry.health.book import HealthBook, course_of, hold
from registry.health.course import LOW_UPTIME, UNREACHABLE
from registry.health.history import last_day, uptime_percentage
from registry.health.models import HealthAlert
from registry.servers.models import Server
from registry.servers.views import health_config_of

LONG_ENOUGH = timedelta(hours=2)
"""How long a server must have been watched before its uptime says anything; whole hours are told apart only."""


async def review_uptime(session: Session, book: HealthBook, now: datetime) -> None:
    """Raise and resolve alerts of low uptime. A server that is down at the moment has its alert already."""
    days = {day.server_id: day for day in await last_day(session, now)}
    troubled = {server_id for server_id, day in days.items() if day.failed}
    still_open = select(HealthAlert.server_id).where(
        HealthAlert.dedup_key == LOW_UPTIME, HealthAlert.resolved_at.is_(None)
    )
    troubled |= set((await session.scalars(still_open)).all())
    live = select(Server).where(Server.id.in_(troubled), Server.deleted_at.is_(None)).order_by(Server.id)
    for server in (await session.scalars(live)).all() if troubled else ():
        await hold(session, server)
        config, course, day = health_config_of(server), course_of(server), days.get(server.id)
        percentage = uptime_percentage(day.checks, day.failed) if day is not None else None
        if percentage is None or day is None or config.in_maintenance(now):
            continue
        low, threshold = LOW_UPTIME in course.open, config.alert_thresholds.uptime_percentage
        if low and percentage >= threshold:
            await book.resolve_alert(session, server, course.open[LOW_UPTIME])
            await book.set_open(session, server, LOW_UPTIME, None)
        elif not low and percentage < threshold and UNREACHABLE not in course.open and day.since <= now - LONG_ENOUGH:
            alert = await book.raise_alert(
                session,
                server,
                LOW_UPTIME,
                "warning",
                f"Only {percentage:g} % of the last day's checks succeeded",
                {"threshold": threshold, "actual_value": percentage},
                dedup_key=LOW_UPTIME,
            )
            await book.set_open(session, server, LOW_UPTIME, alert.id)
