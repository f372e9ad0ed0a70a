"""Records of legacy sessions: what changed in each since it was opened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base


class StoredSession(Base):
    """One session that is more than its id. `key` is a digest, so that nobody can use what he reads here."""

    __tablename__ = "legacy_sessions"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    fields: Mapped[dict[str, Any]]
    writer: Mapped[str] = mapped_column(String(36))
    """The process that changed it last."""
    changed_at: Mapped[datetime] = mapped_column(index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
