"""Records of access rules."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class AccessRuleRecord(UuidKey, Base):
    """See `registry.access.rule.AccessRule`."""

    __tablename__ = "access_rules"
    __table_args__ = (Index("ix_access_rules_org_id_place", "org_id", "place"),)

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"))
    place: Mapped[int]
    """In the organisation's order, from 1 on without gaps."""
    name: Mapped[str] = mapped_column(String(255))
    effect: Mapped[str] = mapped_column(String(8))
    who: Mapped[str] = mapped_column(String(16))
    who_id: Mapped[str | None] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(16))
    pattern: Mapped[str | None] = mapped_column(Text)
    set_slug: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime]
