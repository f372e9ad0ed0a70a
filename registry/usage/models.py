"""Records of calls: one row serves usage and audit.

Rows are written in bulk, past the ORM, so columns are plain: times are microseconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.audit.models import Linked
from registry.core.db import Base


class CallRecord(Linked, Base):
    """One call of a tool, read of a resource or get of a prompt."""

    __tablename__ = "calls"
    __table_args__ = (Index("ix_calls_org_id_at", "org_id", "at"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    org_id: Mapped[str] = mapped_column(String(36))
    user_id: Mapped[str | None] = mapped_column(String(36))
    key_id: Mapped[int | None]
    server_id: Mapped[str | None] = mapped_column(String(36))
    server_slug: Mapped[str] = mapped_column(String(32))
    method: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(16))
    """`ok`, `tool_error`, `error`, `denied`, `not_sent` or `unknown`."""
    error_code: Mapped[int | None]
    duration_us: Mapped[int] = mapped_column(BigInteger)
    bytes_in: Mapped[int] = mapped_column(BigInteger)
    bytes_out: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[float] = mapped_column(Float, default=0.0)
    request_id: Mapped[str | None] = mapped_column(String(128))
