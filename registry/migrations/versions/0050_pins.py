"""Pins of what servers offer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    op.add_column("servers", sa.Column("pinning", sa.String(8), nullable=False, server_default="hold"))
    op.create_table(
        "pins",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("server_id", sa.Uuid(as_uuid=False), sa.ForeignKey("servers.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("definition", sa.Text()),
        sa.Column("approved_at", UTCDateTime()),
        sa.Column("approved_by", sa.String(80)),
        sa.Column("held_digest", sa.String(64)),
        sa.Column("held_definition", sa.Text()),
        sa.Column("held_at", UTCDateTime()),
        sa.Column("reasons", JSONDict, nullable=False),
        sa.Column("kept_digest", sa.String(64)),
        sa.Column("warnings", JSONDict, nullable=False),
    )
    op.create_index("uq_pins_server_id_kind_name", "pins", ["server_id", "kind", "name"], unique=True)


def downgrade() -> None:
    op.drop_table("pins")
    op.drop_column("servers", "pinning")
