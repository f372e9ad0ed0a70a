"""Pins: per tool and prompt, and for a server's instructions, what is approved and what waits."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class Pin(UuidKey, Base):
    """One definition of a server.

    A pin outlives its tool: one that is removed and comes back with another text is held like one that changed.
    """

    __tablename__ = "pins"
    __table_args__ = (Index("uq_pins_server_id_kind_name", "server_id", "kind", "name", unique=True),)

    server_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    """`tool`, `prompt`, or `instructions`, of which a server has one."""
    name: Mapped[str] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(64))
    definition: Mapped[str | None] = mapped_column(Text)
    """What is approved, and served; neither is there before anything was approved."""
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[str | None] = mapped_column(String(80))
    held_digest: Mapped[str | None] = mapped_column(String(64))
    held_definition: Mapped[str | None] = mapped_column(Text)
    held_at: Mapped[datetime | None]
    reasons: Mapped[list[str]] = mapped_column(default=list)
    """Why it is held."""
    kept_digest: Mapped[str | None] = mapped_column(String(64))
    """What the server says now although the approved text was kept: calls pass."""
    warnings: Mapped[list[str]] = mapped_column(default=list)
