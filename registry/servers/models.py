"""Records of registered MCP servers and of what each of them offers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Numeric, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class Server(UuidKey, Base):
    """A registered MCP server. `config` holds sealed secrets; see `registry.servers.connection`."""

    __tablename__ = "servers"
    __table_args__ = (
        # A deleted server frees its slug.
        Index(
            "uq_servers_org_id_slug_live",
            "org_id",
            "slug",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # A public address names no organisation.
        Index(
            "uq_servers_slug_public",
            "slug",
            unique=True,
            sqlite_where=text("public AND deleted_at IS NULL"),
            postgresql_where=text("public AND deleted_at IS NULL"),
        ),
    )

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"), index=True)
    owner_user_id: Mapped[str | None] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"))
    slug: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[str] = mapped_column(String(32), default="development")
    status: Mapped[str] = mapped_column(String(16), default="active")
    tags: Mapped[list[str]] = mapped_column(default=list)

    transport: Mapped[str] = mapped_column(String(32))
    base_url: Mapped[str | None] = mapped_column(Text)
    endpoint_url: Mapped[str | None] = mapped_column(Text)
    """Where MCP was found: `base_url`, or `base_url` with `/mcp` or `/sse`."""
    command: Mapped[str | None] = mapped_column(Text)
    args: Mapped[list[str]] = mapped_column(default=list)
    container: Mapped[dict[str, Any] | None]
    """Where a stdio server runs; see `registry.servers.contained`. `None`: on the gateway's machine."""
    sealed_env: Mapped[str | None] = mapped_column(Text)
    sealed_headers: Mapped[str | None] = mapped_column(Text)
    deadlines: Mapped[dict[str, Any]] = mapped_column(default=dict)
    public: Mapped[bool] = mapped_column(default=False)
    price_usd: Mapped[float | None] = mapped_column(Numeric(18, 9, asdecimal=False))
    pinning: Mapped[str] = mapped_column(String(8), default="hold")
    """`hold`: changed definitions wait for a person; `strict`: new ones too; `off`: nothing does."""

    operations: Mapped[dict[str, Any] | None]
    """Of a REST service; see `registry.servers.operations`."""
    declared_capabilities: Mapped[dict[str, Any]] = mapped_column(default=dict)
    server_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the server said of itself: version, protocol version, era, instructions, capabilities."""
    health_status: Mapped[str] = mapped_column(String(16), default="unknown")
    health: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Result of the latest look: the three checks, the response time, the error."""
    health_config: Mapped[dict[str, Any] | None]
    """See `registry.servers.health_config`; `None` where nobody has set anything."""
    discovered_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Capability(UuidKey, Base):
    """One tool, resource, resource template or prompt of a server, exactly as the server described it."""

    __tablename__ = "capabilities"
    __table_args__ = (Index("uq_capabilities_server_id_kind_name", "server_id", "kind", "name", unique=True),)

    server_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    """The tool's or prompt's name, the resource's URI, the template's URI template."""
    position: Mapped[int]
    definition: Mapped[str] = mapped_column(Text)
    """The server's own JSON text; fields unknown to us survive."""
