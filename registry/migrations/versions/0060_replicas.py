"""What several processes on one database tell each other: leases, changed offers, and sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "offers_versions",
        sa.Column("org_id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "legacy_sessions",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("fields", JSONDict, nullable=False),
        sa.Column("writer", sa.String(36), nullable=False),
        sa.Column("changed_at", UTCDateTime(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
    )
    op.create_index("ix_legacy_sessions_changed_at", "legacy_sessions", ["changed_at"])
    op.create_index("ix_legacy_sessions_expires_at", "legacy_sessions", ["expires_at"])


def downgrade() -> None:
    for table in ("legacy_sessions", "offers_versions", "leases"):
        op.drop_table(table)
