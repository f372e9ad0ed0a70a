"""Rules that make calls wait, and calls that wait or waited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Numeric, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, JSONDict, UuidKey

OPEN = text("status IN ('waiting', 'approved')")


class ApprovalRule(UuidKey, Base):
    """See `registry.approvals.rule.Rule`."""

    __tablename__ = "approval_rules"

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    tool: Mapped[str] = mapped_column(Text)
    destructive: Mapped[bool]
    argument: Mapped[dict[str, Any] | None] = mapped_column(JSONDict)
    min_price_usd: Mapped[float | None] = mapped_column(Numeric(18, 9, asdecimal=False))
    ask: Mapped[str] = mapped_column(String(16))
    expires_seconds: Mapped[int]
    created_at: Mapped[datetime]


class Approval(UuidKey, Base):
    """One call that a rule held. At most one is open for the same caller, tool and arguments."""

    __tablename__ = "approvals"
    __table_args__ = (
        Index("uq_approvals_binding_open", "binding", unique=True, sqlite_where=OPEN, postgresql_where=OPEN),
        Index("ix_approvals_org_id_asked_at", "org_id", "asked_at"),
        Index("ix_approvals_binding", "binding"),
    )

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"))
    binding: Mapped[str] = mapped_column(String(64))
    """Hash of who calls what with which arguments."""
    status: Mapped[str] = mapped_column(String(16))
    """`waiting`, `approved`, `denied`, `used` or `expired`."""
    rule_id: Mapped[str] = mapped_column(Uuid(as_uuid=False))
    rule: Mapped[str] = mapped_column(String(255))
    ask: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(36))
    key_id: Mapped[int | None]
    server_id: Mapped[str] = mapped_column(String(36))
    tool: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    """Of the arguments."""
    sealed_arguments: Mapped[str] = mapped_column(Text)
    arguments_bytes: Mapped[int]
    expires_seconds: Mapped[int]
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(80))
    decided_over: Mapped[str | None] = mapped_column(String(16))
    """`inbox`, or `elicitation`."""
    reason: Mapped[str | None] = mapped_column(Text)
    used_at: Mapped[datetime | None]
