"""Records of health: results of checks in full resolution, their roll-ups, and alerts.

Results are many and written in bulk, so their times are microseconds since the epoch.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, SmallInteger, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey

OPEN = text("resolved_at IS NULL AND dedup_key IS NOT NULL")


class HealthSample(Base):
    """The result of one check."""

    __tablename__ = "health_samples"

    server_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True, index=True)
    status: Mapped[str] = mapped_column(String(16))
    response_time_ms: Mapped[float | None] = mapped_column(Float)
    failed: Mapped[int] = mapped_column(SmallInteger)
    """1 if the server could not be used, so that a sum counts."""
    counted: Mapped[int] = mapped_column(SmallInteger)
    """0 in maintenance: neither uptime nor roll-ups know of it."""


class HealthRollup(Base):
    """The results of a server's checks within one step of time."""

    __tablename__ = "health_rollups"

    step: Mapped[int] = mapped_column(primary_key=True)
    """Seconds."""
    server_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    checks: Mapped[int]
    failed: Mapped[int]
    timed: Mapped[int]
    """How many have a response time."""
    response_sum_ms: Mapped[float] = mapped_column(Float)
    response_max_ms: Mapped[float | None] = mapped_column(Float)


class HealthAlert(UuidKey, Base):
    """Something about a server's health that people should know; resolved when it is over."""

    __tablename__ = "health_alerts"
    __table_args__ = (
        Index("ix_health_alerts_server_id_created_at", "server_id", "created_at"),
        # Of what the monitor raises, one is open at most.
        Index(
            "uq_health_alerts_server_id_dedup_key",
            "server_id",
            "dedup_key",
            unique=True,
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        ),
    )

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"))
    server_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(64))
    severity: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]]
    dedup_key: Mapped[str | None] = mapped_column(String(64))
    """`None` for alerts that people raise."""
    created_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
