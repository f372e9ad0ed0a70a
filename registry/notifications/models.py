"""Records of notification channels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class NotificationChannel(UuidKey, Base):
    """Where notices go: those about one server, or about all of its organisation's."""

    __tablename__ = "notification_channels"

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    server_id: Mapped[str | None] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"), index=True
    )
    """`None`: every server of the organisation."""
    name: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(16))
    enabled: Mapped[bool]
    config: Mapped[dict[str, Any]]
    """What is no secret."""
    sealed_secrets: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
