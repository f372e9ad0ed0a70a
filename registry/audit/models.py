"""Records of who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class AuditEntry(UuidKey, Base):
    """One thing that somebody did, or was refused."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_org_id_at", "org_id", "at"),)

    org_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"))
    at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(36))
    key_id: Mapped[int | None]
    action: Mapped[str] = mapped_column(String(80))
    target_type: Mapped[str | None] = mapped_column(String(40))
    target_id: Mapped[str | None] = mapped_column(String(200))
    outcome: Mapped[str] = mapped_column(String(20))
    request_id: Mapped[str | None] = mapped_column(String(128))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
