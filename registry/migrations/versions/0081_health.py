"""How servers are watched, the results of checks, and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0081"
down_revision = "0080"

_OPEN = sa.text("resolved_at IS NULL AND dedup_key IS NOT NULL")


def _server() -> sa.ForeignKey:
    return sa.ForeignKey("servers.id", ondelete="CASCADE")


def upgrade() -> None:
    op.add_column("servers", sa.Column("health_config", JSONDict))
    op.create_table(
        "health_samples",
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True, index=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("response_time_ms", sa.Float()),
        sa.Column("failed", sa.SmallInteger(), nullable=False),
        sa.Column("counted", sa.SmallInteger(), nullable=False),
    )
    op.create_table(
        "health_rollups",
        sa.Column("step", sa.Integer(), primary_key=True),
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("timed", sa.Integer(), nullable=False),
        sa.Column("response_sum_ms", sa.Float(), nullable=False),
        sa.Column("response_max_ms", sa.Float()),
    )
    op.create_table(
        "health_alerts",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", JSONDict, nullable=False),
        sa.Column("dedup_key", sa.String(64)),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("resolved_at", UTCDateTime()),
    )
    op.create_index("ix_health_alerts_server_id_created_at", "health_alerts", ["server_id", "created_at"])
    op.create_index(
        "uq_health_alerts_server_id_dedup_key",
        "health_alerts",
        ["server_id", "dedup_key"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def downgrade() -> None:
    op.drop_table("health_alerts")
    op.drop_table("health_rollups")
    op.drop_table("health_samples")
    op.drop_column("servers", "health_config")
