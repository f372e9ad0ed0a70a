"""Workspaces, what they used, and what happened to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0090"
down_revision = "0080"

_LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("slug", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("container_status", sa.String(16), nullable=False),
        sa.Column("container_id", sa.String(128)),
        sa.Column("problem", sa.Text()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at", UTCDateTime()),
        sa.Column("image", sa.String(255)),
        sa.Column("network", sa.String(16), nullable=False),
        sa.Column("allowed_hosts", JSONDict, nullable=False),
        sa.Column("details", JSONDict, nullable=False),
        sa.Column("nexusgate_service_id", sa.String(200)),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("deleted_at", UTCDateTime()),
        sa.Column("started_at", UTCDateTime()),
        sa.Column("used_at", UTCDateTime(), nullable=False),
        sqlite_autoincrement=True,
    )
    for name, columns in (
        ("uq_workspaces_user_id_name_live", ["user_id", "name"]),
        ("uq_workspaces_org_id_slug_live", ["org_id", "slug"]),
    ):
        op.create_index(name, "workspaces", columns, unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_table(
        "workspace_usage",
        sa.Column("workspace_id", sa.Integer(), sa.ForeignKey("workspaces.id"), primary_key=True),
        sa.Column("hour", UTCDateTime(), primary_key=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=False),
        sa.Column("memory_byte_seconds", sa.Float(), nullable=False),
    )
    op.create_table(
        "workspace_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("workspace_id", sa.Integer(), sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
    )
    op.create_index("ix_workspace_events_workspace_id_id", "workspace_events", ["workspace_id", "id"])


def downgrade() -> None:
    for table in ("workspace_events", "workspace_usage", "workspaces"):
        op.drop_table(table)
