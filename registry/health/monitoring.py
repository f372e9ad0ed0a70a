"""What people do with the health of servers: see it and its history, say how it is watched, raise and close alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, as_uuid, emit
from registry.core.errors import Conflict, Invalid, NotFound
from registry.health import history
from registry.health.book import HealthBook, course_of, hold
from registry.health.history import KEEP_SAMPLES, STEPS, Granularity, Sums, together
from registry.health.models import HealthAlert, HealthSample
from registry.health.views import (
    AlertDraft,
    AlertsView,
    HealthMetrics,
    MetricPoint,
    MetricsSummary,
    Period,
    ServerHealthConfig,
    alert_view,
)
from registry.identity.principal import Principal
from registry.servers.events import CatalogChanged
from registry.servers.health_config import HealthConfig
from registry.servers.models import Server
from registry.servers.queries import by_id_or_slug
from registry.servers.views import ServerHealth, health_config_of, server_health

READ = "mcp:health:read"
MANAGE = "mcp:health:manage"
US = 1_000_000


class AlertNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("Health alert not found")


class AlertClosed(Conflict):
    def __init__(self) -> None:
        super().__init__("This alert has been resolved already.")


class PeriodInvalid(Invalid):
    pass


class MonitoringService:
    """Servers are named by id or slug throughout."""

    def __init__(self, clock: Clock, audit: AuditService, book: HealthBook) -> None:
        self._clock = clock
        self._audit = audit
        self._book = book

    async def health(self, session: Session, principal: Principal, server: str) -> ServerHealth:
        principal.require(READ)
        found = await by_id_or_slug(session, principal, server)
        percentage = await history.uptime(session, found.id, self._clock.now())
        return server_health(found).model_copy(update={"uptime_percentage": percentage})

    async def config(self, session: Session, principal: Principal, server: str) -> ServerHealthConfig:
        principal.require(READ)
        found = await by_id_or_slug(session, principal, server)
        return ServerHealthConfig(server_id=found.id, **health_config_of(found).model_dump())

    async def configure(
        self, session: Session, principal: Principal, server: str, changes: dict[str, Any]
    ) -> ServerHealthConfig:
        """Change how a server is watched.

        Args:
            changes: fields of `HealthConfig` with their new values; those left out stay as they are.
        """
        principal.require(MANAGE)
        found = await by_id_or_slug(session, principal, server)
        kept = health_config_of(found).model_dump(mode="json")
        thresholds = kept["alert_thresholds"] | (changes.get("alert_thresholds") or {})
        config = HealthConfig.model_validate(kept | changes | {"alert_thresholds": thresholds})
        found.health_config = config.model_dump(mode="json")
        emit(session, CatalogChanged(found.org_id, found.id))
        await self._audit.record(session, principal, "health.configure", target=("server", found.id), detail=changes)
        return ServerHealthConfig(server_id=found.id, **config.model_dump())

    async def metrics(
        self,
        session: Session,
        principal: Principal,
        server: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        granularity: Granularity | None = None,
    ) -> HealthMetrics:
        """Checks of a time, by default the last day.

        Args:
            granularity: `None` is every single check, where those are still kept, else hours.

        Raises:
            PeriodInvalid: it ends before it begins, or has more than `history.MOST_POINTS` steps.
        """
        principal.require(READ)
        found = await by_id_or_slug(session, principal, server)
        now = self._clock.now()
        end = end or now
        start = start or end - timedelta(days=1)
        if end <= start:
            raise PeriodInvalid("end_time must come after start_time.", field="end_time")
        if granularity is None and start < now - KEEP_SAMPLES:
            granularity = "1h"
        if granularity is None:
            points = [_point(sample) for sample in await history.samples(session, found.id, start, end)]
            whole = await history.sums(session, found.id, STEPS["1m"], start, end, now)
        else:
            if (end - start) / timedelta(seconds=STEPS[granularity]) > history.MOST_POINTS:
                raise PeriodInvalid("These are too many points: use a coarser granularity.", field="granularity")
            whole = await history.sums(session, found.id, STEPS[granularity], start, end, now)
            points = [_step(part) for part in whole]
        return HealthMetrics(
            server_id=found.id,
            period=Period(start_time=start, end_time=end),
            summary=_summary(together(whole)),
            metrics=points,
        )

    async def alerts(
        self,
        session: Session,
        principal: Principal,
        server: str,
        *,
        open_only: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> AlertsView:
        """Newest first."""
        principal.require(READ)
        found = await by_id_or_slug(session, principal, server)
        wanted = _alerts_of(found)
        if open_only:
            wanted = wanted.where(HealthAlert.resolved_at.is_(None))
        total = await session.scalar(select(func.count()).select_from(wanted.subquery()))
        rows = await session.scalars(
            wanted.order_by(HealthAlert.created_at.desc(), HealthAlert.id).limit(limit).offset(offset)
        )
        return AlertsView(alerts=[alert_view(row) for row in rows], total=total or 0)

    async def raise_alert(self, session: Session, principal: Principal, server: str, draft: AlertDraft) -> HealthAlert:
        """Raise an alert of one's own; it is told as those of the monitor are, and stays open until it is resolved."""
        principal.require(MANAGE)
        found = await by_id_or_slug(session, principal, server)
        made = await self._book.raise_alert(session, found, draft.type, draft.severity, draft.message, draft.metadata)
        await self._audit.record(session, principal, "health.alerts.create", target=("health_alert", made.id))
        return made

    async def resolve_alert(self, session: Session, principal: Principal, server: str, alert_id: str) -> HealthAlert:
        """Close an alert. One of the monitor comes again if its reason is still there."""
        principal.require(MANAGE)
        found = await by_id_or_slug(session, principal, server)
        alert = await session.scalar(_alerts_of(found).where(HealthAlert.id == as_uuid(alert_id)))
        if alert is None:
            raise AlertNotFound
        await hold(session, found)
        if alert.resolved_at is not None or await self._book.resolve_alert(session, found, alert.id) is None:
            raise AlertClosed
        kind = next((kind for kind, known in course_of(found).open.items() if known == alert.id), None)
        if kind is not None:
            await self._book.set_open(session, found, kind, None)
        await self._audit.record(session, principal, "health.alerts.resolve", target=("health_alert", alert.id))
        return alert


def _alerts_of(server: Server) -> Select[HealthAlert]:
    return select(HealthAlert).where(HealthAlert.server_id == server.id)


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / US, UTC)


def _point(sample: HealthSample) -> MetricPoint:
    return MetricPoint(
        timestamp=_time(sample.at),
        status=sample.status,
        response_time_ms=sample.response_time_ms,
        uptime=not sample.failed,
        failed_checks=sample.failed,
    )


def _step(part: Sums) -> MetricPoint:
    status = "healthy" if not part.failed else "unhealthy" if part.failed == part.checks else "degraded"
    return MetricPoint(
        timestamp=_time(part.at),
        status=status,
        response_time_ms=part.average_ms,
        uptime=not part.failed,
        checks=part.checks,
        failed_checks=part.failed,
    )


def _summary(whole: Sums) -> MetricsSummary:
    return MetricsSummary(
        total_checks=whole.checks,
        successful_checks=whole.checks - whole.failed,
        failed_checks=whole.failed,
        uptime_percentage=whole.uptime,
        avg_response_time_ms=whole.average_ms,
        max_response_time_ms=whole.response_max_ms,
    )
