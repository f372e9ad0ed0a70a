"""Records of teams and of who is in them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey

LIVE = text("deleted_at IS NULL")


class Team(UuidKey, Base):
    """Some users of one organisation. A removed team keeps its row, so that records about it keep their meaning."""

    __tablename__ = "teams"
    __table_args__ = (
        Index("uq_teams_org_id_name", "org_id", "name", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
    )

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text, default="")
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    """Grows with every change of the team or its members, so that processes see by one sum whether anything did."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class TeamMember(Base):
    """A user in a team."""

    __tablename__ = "team_members"

    team_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("teams.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    """`lead` or `member`."""
    joined_at: Mapped[datetime]
