"""How a server's health is watched: values that are kept with the server, with defaults for what nobody has set.

Watching is `registry.health`. Source: `sprintconnect.md`, Health Configuration; `checks` and `maintenance_windows` are
ours.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Check = Literal["connectivity", "handshake", "capabilities"]


class AlertThresholds(BaseModel):
    """Beyond these an alert is raised.

    Args:
        response_time_ms: a check takes longer, several times in a row.
        uptime_percentage: fewer of a day's checks succeed, in percent.
    """

    model_config = ConfigDict(extra="forbid")

    response_time_ms: float = Field(default=5000, gt=0, le=3_600_000)
    uptime_percentage: float = Field(default=95.0, ge=0, le=100)


class MaintenanceWindow(BaseModel):
    """A time in which a server may be down: it is checked, but no alert is raised, and its uptime is not counted."""

    model_config = ConfigDict(extra="forbid")

    starts_at: AwareDatetime
    ends_at: AwareDatetime
    reason: str | None = Field(default=None, max_length=1000)

    @model_validator(mode="after")
    def _ordered(self) -> MaintenanceWindow:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must come after starts_at")
        return self


class HealthConfig(BaseModel):
    """What is watched and how often.

    Args:
        timeout_seconds: for one attempt.
        retry_count: further attempts before a check has failed.
        checks: `connectivity` is always looked at; `handshake` whether MCP is spoken there; `capabilities` whether
            what the server offers can be listed.
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    check_interval_seconds: int = Field(default=300, ge=1, le=86_400)
    timeout_seconds: int = Field(default=30, ge=1, le=300)
    retry_count: int = Field(default=3, ge=0, le=10)
    alert_thresholds: AlertThresholds = AlertThresholds()
    checks: list[Check] = Field(default=["connectivity", "handshake", "capabilities"], max_length=3)
    maintenance_windows: list[MaintenanceWindow] = Field(default_factory=list[MaintenanceWindow], max_length=100)

    def in_maintenance(self, now: datetime) -> bool:
        return any(window.starts_at <= now < window.ends_at for window in self.maintenance_windows)
