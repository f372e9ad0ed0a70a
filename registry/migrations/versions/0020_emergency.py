"""Emergency stops."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import UTCDateTime

revision = "0020"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "emergency_stops",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("place", sa.String(36), nullable=False),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id")),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("begun_at", UTCDateTime(), nullable=False),
        sa.Column("begun_by", sa.String(80), nullable=False),
        sa.Column("begun_by_user_id", sa.String(36)),
        sa.Column("ended_at", UTCDateTime()),
        sa.Column("ended_by", sa.String(80)),
        sa.Column("ended_why", sa.Text()),
    )
    op.create_index(
        "uq_emergency_stops_place_in_force",
        "emergency_stops",
        ["place"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("emergency_stops")
