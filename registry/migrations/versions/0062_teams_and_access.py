"""Teams, and rules that say who may use what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import UTCDateTime

revision = "0062"
down_revision = "0061"

_LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "teams",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("deleted_at", UTCDateTime()),
    )
    op.create_index(
        "uq_teams_org_id_name", "teams", ["org_id", "name"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.Uuid(as_uuid=False), sa.ForeignKey("teams.id"), primary_key=True),
        sa.Column("user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id"), primary_key=True, index=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("joined_at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "access_rules",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("effect", sa.String(8), nullable=False),
        sa.Column("who", sa.String(16), nullable=False),
        sa.Column("who_id", sa.String(64)),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("pattern", sa.Text()),
        sa.Column("set_slug", sa.String(32)),
        sa.Column("created_at", UTCDateTime(), nullable=False),
    )
    op.create_index("ix_access_rules_org_id_place", "access_rules", ["org_id", "place"])


def downgrade() -> None:
    op.drop_table("access_rules")
    op.drop_table("team_members")
    op.drop_table("teams")
