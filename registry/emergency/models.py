"""Emergency stops, those in force and those that were ended: who, when and why stays readable."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey

IN_FORCE = text("ended_at IS NULL")


class EmergencyStop(UuidKey, Base):
    """One stop, from its beginning to its end.

    `place` is the organisation's id, or `system`: at most one stop is in force in each.
    """

    __tablename__ = "emergency_stops"
    __table_args__ = (
        Index(
            "uq_emergency_stops_place_in_force",
            "place",
            unique=True,
            sqlite_where=IN_FORCE,
            postgresql_where=IN_FORCE,
        ),
    )

    place: Mapped[str] = mapped_column(String(36))
    org_id: Mapped[str | None] = mapped_column(ForeignKey("organizations.id"))
    reason: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime]
    begun_by: Mapped[str] = mapped_column(String(80))
    begun_by_user_id: Mapped[str | None] = mapped_column(String(36))
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None] = mapped_column(String(80))
    ended_why: Mapped[str | None] = mapped_column(Text)
