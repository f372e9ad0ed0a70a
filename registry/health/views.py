"""Health of servers as callers see it. Source: `sprintconnect.md`, Health Monitoring."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from registry.health.course import Severity
from registry.health.models import HealthAlert
from registry.servers.health_config import HealthConfig


class ServerHealthConfig(HealthConfig):
    server_id: str


class Period(BaseModel):
    start_time: datetime
    end_time: datetime


class MetricsSummary(BaseModel):
    total_checks: int
    successful_checks: int
    failed_checks: int
    uptime_percentage: float | None
    avg_response_time_ms: float | None
    max_response_time_ms: float | None


class MetricPoint(BaseModel):
    """One check, or those of one step of time.

    Args:
        uptime: none of them failed.
    """

    timestamp: datetime
    status: str
    response_time_ms: float | None
    uptime: bool
    checks: int = 1
    failed_checks: int = 0


class HealthMetrics(BaseModel):
    server_id: str
    period: Period
    summary: MetricsSummary
    metrics: list[MetricPoint]


class AlertDraft(BaseModel):
    """An alert that a person or a program raises."""

    type: str = Field(min_length=1, max_length=64)
    severity: Severity
    message: str = Field(min_length=1, max_length=10_000)
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any], max_length=100)


class AlertView(BaseModel):
    id: str
    server_id: str
    type: str
    severity: str
    message: str
    created_at: datetime
    resolved_at: datetime | None
    metadata: dict[str, Any]


class AlertsView(BaseModel):
    alerts: list[AlertView]
    total: int


def alert_view(alert: HealthAlert) -> AlertView:
    return AlertView(
        id=alert.id,
        server_id=alert.server_id,
        type=alert.type,
        severity=alert.severity,
        message=alert.message,
        created_at=alert.created_at,
        resolved_at=alert.resolved_at,
        metadata=alert.details,
    )
