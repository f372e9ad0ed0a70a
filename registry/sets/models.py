"""Records of sets: chosen tools, resources and prompts of chosen servers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, JSONDict, UuidKey


class ToolSet(UuidKey, Base):
    """A set. What its members are is read and written by `registry.sets.members`."""

    __tablename__ = "sets"
    __table_args__ = (
        Index("uq_sets_org_id_slug", "org_id", "slug", unique=True),
        # A public address names no organisation.
        Index("uq_sets_slug_public", "slug", unique=True, sqlite_where=text("public"), postgresql_where=text("public")),
    )

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    slug: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    public: Mapped[bool] = mapped_column(default=False)
    members: Mapped[list[dict[str, Any]]] = mapped_column(JSONDict, default=list)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
