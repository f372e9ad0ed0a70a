"""Servers with what they offer, and the records of calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _create_servers()
    _create_capabilities()
    _create_calls()


def downgrade() -> None:
    for table in ("calls", "capabilities", "servers"):
        op.drop_table(table)


def _create_servers() -> None:
    op.create_table(
        "servers",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("owner_user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id")),
        sa.Column("slug", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("environment", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("tags", JSONDict, nullable=False),
        sa.Column("transport", sa.String(32), nullable=False),
        sa.Column("base_url", sa.Text()),
        sa.Column("endpoint_url", sa.Text()),
        sa.Column("command", sa.Text()),
        sa.Column("args", JSONDict, nullable=False),
        sa.Column("sealed_env", sa.Text()),
        sa.Column("sealed_headers", sa.Text()),
        sa.Column("deadlines", JSONDict, nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("price_usd", sa.Numeric(18, 9)),
        sa.Column("declared_capabilities", JSONDict, nullable=False),
        sa.Column("server_metadata", JSONDict, nullable=False),
        sa.Column("health_status", sa.String(16), nullable=False),
        sa.Column("health", JSONDict, nullable=False),
        sa.Column("discovered_at", UTCDateTime()),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("deleted_at", UTCDateTime()),
    )
    op.create_index(
        "uq_servers_org_id_slug_live",
        "servers",
        ["org_id", "slug"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _create_capabilities() -> None:
    server = sa.ForeignKey("servers.id", ondelete="CASCADE")
    op.create_table(
        "capabilities",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("server_id", sa.Uuid(as_uuid=False), server, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
    )
    op.create_index("uq_capabilities_server_id_kind_name", "capabilities", ["server_id", "kind", "name"], unique=True)


def _create_calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("org_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36)),
        sa.Column("key_id", sa.Integer()),
        sa.Column("server_id", sa.String(36)),
        sa.Column("server_slug", sa.String(32), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error_code", sa.Integer()),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("request_id", sa.String(128)),
    )
    op.create_index("ix_calls_org_id_at", "calls", ["org_id", "at"])
