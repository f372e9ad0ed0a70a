"""Credentials that people keep for the remotes of git."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import UTCDateTime

revision = "0120"
down_revision = "0110"


def upgrade() -> None:
    op.create_table(
        "git_credentials",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("origin", sa.String(300), nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
    )
    op.create_index("uq_git_credentials_user_id_origin", "git_credentials", ["user_id", "origin"], unique=True)


def downgrade() -> None:
    op.drop_table("git_credentials")
