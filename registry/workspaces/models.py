"""Records of workspaces. `status` is what is wanted, `container_status` what was last seen of the engine's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey

_LIVE = text("deleted_at IS NULL")


class Workspace(Base):
    """A workspace of a user. Deleted ones are kept; their name and slug are free again."""

    __tablename__ = "workspaces"
    __table_args__ = (
        Index("uq_workspaces_user_id_name_live", "user_id", "name", unique=True, sqlite_where=_LIVE,
              postgresql_where=_LIVE),
        Index("uq_workspaces_org_id_slug_live", "org_id", "slug", unique=True, sqlite_where=_LIVE,
              postgresql_where=_LIVE),
        # An id names containers and volumes, so it is never given twice.
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    slug: Mapped[str] = mapped_column(String(32))
    """Prefix of its tools on `/mcp`; unique with the slugs of the organisation's servers."""
    status: Mapped[str] = mapped_column(String(16))
    """`active`: is to run; `inactive`: is to sleep until it is called or started; `deleted`."""
    container_status: Mapped[str] = mapped_column(String(16))
    """`starting`, `running`, `stopping`, `stopped` or `failed`."""
    container_id: Mapped[str | None] = mapped_column(String(128))
    problem: Mapped[str | None] = mapped_column(Text)
    """Why it does not run although it is to."""
    failures: Mapped[int] = mapped_column(default=0)
    """Starts that failed in a row."""
    retry_at: Mapped[datetime | None]
    image: Mapped[str | None] = mapped_column(String(255))
    network: Mapped[str] = mapped_column(String(16))
    allowed_hosts: Mapped[list[str]] = mapped_column(default=list)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The `metadata` that its creator gave."""
    nexusgate_service_id: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    used_at: Mapped[datetime]
    """The latest call, or start: what idleness is counted from."""


class WorkspaceUsage(Base):
    """What a workspace used in one hour. Its calls are among the records of calls, under its server id."""

    __tablename__ = "workspace_usage"

    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    cpu_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    memory_byte_seconds: Mapped[float] = mapped_column(Float, default=0.0)


class WorkspaceEvent(Base):
    """Something that happened to a workspace: for people who wonder why it is as it is."""

    __tablename__ = "workspace_events"
    __table_args__ = (Index("ix_workspace_events_workspace_id_id", "workspace_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspaces.id"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)


class GitCredential(UuidKey, Base):
    """What a user shows to the remotes of one origin; the password is sealed for user and origin."""

    __tablename__ = "git_credentials"
    __table_args__ = (Index("uq_git_credentials_user_id_origin", "user_id", "origin", unique=True),)

    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"))
    origin: Mapped[str] = mapped_column(String(300))
    """Scheme, host and port, as `https://example.org`."""
    username: Mapped[str] = mapped_column(String(255))
    sealed: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]
