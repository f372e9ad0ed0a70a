"""Notification channels of servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0082"
down_revision = "0081"


def upgrade() -> None:
    server = sa.ForeignKey("servers.id", ondelete="CASCADE")
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("server_id", sa.Uuid(as_uuid=False), server, nullable=False, index=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("config", JSONDict, nullable=False),
        sa.Column("sealed_secrets", sa.Text()),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("notification_channels")
