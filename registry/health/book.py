"""The book of health: writes down what was observed of a server, with all that follows, in one transaction.

That is: the result of the check, where the server stands now, alerts that begin or end, and notices of those. What
follows is decided in `registry.health.course`; who looks is the monitor, and discovery (see
`registry.servers.looks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, select

from registry.core.clock import Clock
from registry.core.db import Session, emit, insert_into, new_id
from registry.core.events import Event
from registry.health.course import Course, Observation, Raise, Severity, advance
from registry.health.models import HealthAlert, HealthRollup, HealthSample
from registry.notifications.notice import Notice
from registry.notifications.service import NotificationService
from registry.servers.connection import Offer
from registry.servers.events import CatalogChanged
from registry.servers.models import Server
from registry.servers.views import health_config_of

_COURSE = "course"
US = 1_000_000


@dataclass(frozen=True, slots=True)
class HealthChecked(Event):
    """A server was looked at.

    Args:
        status: where it stands now.
        before: where it stood.
    """

    org_id: str
    server_id: str
    status: str
    before: str


def course_of(server: Server) -> Course:
    """Where a server stands, as it was written down last."""
    kept: dict[str, Any] | None = server.health.get(_COURSE)
    return Course() if kept is None else msgspec.convert(kept, Course)


async def hold(session: Session, server: Server) -> None:
    """Read anew where a server stands, and keep others from changing it until the transaction ends."""
    await session.refresh(server, ["health", "health_status", "health_config"], with_for_update=True)


class HealthBook:
    def __init__(self, clock: Clock, notifications: NotificationService) -> None:
        self._clock = clock
        self._notifications = notifications

    async def looked(self, session: Session, server: Server, offer: Offer) -> None:
        """See `registry.servers.looks.HealthKeeping`."""
        await hold(session, server)
        # A whole look takes longer than a check: its time says nothing about the server's pace.
        seen = Observation(self._clock.now(), offer.reachable, offer.checks, None, offer.error)
        await self.note(session, server, seen, shown_ms=offer.response_time_ms)

    async def note(self, session: Session, server: Server, seen: Observation, *, shown_ms: float | None = None) -> None:
        """Write down an observation of a server that is held (`hold`).

        Args:
            shown_ms: a response time that is shown, and is not part of the server's pace.
        """
        config, before = health_config_of(server), server.health_status
        course, steps = advance(course_of(server), seen, config)
        open_now = dict(course.open)
        for step in steps:
            if isinstance(step, Raise):
                alert = await self.raise_alert(
                    session, server, step.type, step.severity, step.message, step.details, dedup_key=step.type
                )
                open_now[step.type] = alert.id
            else:
                await self.resolve_alert(session, server, open_now.pop(step.type))
        course = replace(course, open=open_now)
        server.health_status = course.status
        server.health = {
            "last_check_at": seen.at.isoformat(),
            "response_time_ms": seen.response_time_ms if shown_ms is None else shown_ms,
            "error_message": seen.error or seen.failing_calls,
            "checks": seen.checks,
            _COURSE: msgspec.to_builtins(course),
        }
        await self._keep_sample(session, server, seen, counted=not config.in_maintenance(seen.at))
        emit(session, HealthChecked(server.org_id, server.id, course.status, before))
        if course.status != before:
            emit(session, CatalogChanged(server.org_id, server.id))

    async def raise_alert(
        self,
        session: Session,
        server: Server,
        kind: str,
        severity: Severity,
        message: str,
        details: dict[str, Any],
        *,
        dedup_key: str | None = None,
    ) -> HealthAlert:
        """Open an alert, and have it told.

        Args:
            dedup_key: of those with the same, a server has one open at most.
        """
        alert = HealthAlert(
            id=new_id(),
            org_id=server.org_id,
            server_id=server.id,
            type=kind,
            severity=severity,
            message=message,
            details=details,
            dedup_key=dedup_key,
            created_at=self._clock.now(),
        )
        session.add(alert)
        await session.flush()
        await self._tell(session, server, alert, "alert.raised")
        return alert

    async def resolve_alert(self, session: Session, server: Server, alert_id: str) -> HealthAlert | None:
        """Close an alert, and have that told; nothing where it is closed or gone."""
        alert = await session.scalar(
            select(HealthAlert).where(HealthAlert.id == alert_id, HealthAlert.resolved_at.is_(None))
        )
        if alert is not None:
            alert.resolved_at = self._clock.now()
            await session.flush()
            await self._tell(session, server, alert, "alert.resolved")
        return alert

    async def forget(self, session: Session, server: Server) -> None:
        """A removed server's alerts are over, which is told, and its figures go. See `registry.servers.cleanup`."""
        still_open = select(HealthAlert.id).where(HealthAlert.server_id == server.id, HealthAlert.resolved_at.is_(None))
        for alert_id in (await session.scalars(still_open)).all():
            await self.resolve_alert(session, server, alert_id)
        for kept in (HealthSample, HealthRollup):
            await session.execute(delete(kept).where(kept.server_id == server.id))

    async def set_open(self, session: Session, server: Server, kind: str, alert_id: str | None) -> None:
        """Note that an alert was opened, or closed, by somebody else than `note`. The server must be held."""
        course = course_of(server)
        kept = {name: value for name, value in course.open.items() if name != kind}
        if alert_id is not None:
            kept[kind] = alert_id
        server.health = {**server.health, _COURSE: msgspec.to_builtins(replace(course, open=kept))}
        await session.flush()

    async def _tell(
        self, session: Session, server: Server, alert: HealthAlert, event: Literal["alert.raised", "alert.resolved"]
    ) -> None:
        notice = Notice(
            event=event,
            subject_id=alert.id,
            type=alert.type,
            severity=alert.severity,
            message=alert.message,
            server_id=server.id,
            server_name=server.name,
            at=self._clock.now().isoformat(),
            details=alert.details,
        )
        await self._notifications.announce(session, server.org_id, notice)

    async def _keep_sample(self, session: Session, server: Server, seen: Observation, *, counted: bool) -> None:
        sample = {
            "server_id": server.id,
            "at": round(seen.at.timestamp() * US),
            "status": server.health_status,
            "response_time_ms": seen.response_time_ms,
            "failed": int(not seen.usable),
            "counted": int(counted),
        }
        insert = insert_into(session, HealthSample)
        # Two that saw the same server at the same microsecond saw the same.
        await session.execute(insert.values(sample).on_conflict_do_nothing())
