"""Sets; public slugs that are unique over all organisations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0030"
down_revision = "0021"

_PUBLIC_SERVER = "public AND deleted_at IS NULL"
_PUBLIC_SET = "public"


def upgrade() -> None:
    op.create_table(
        "sets",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("slug", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("members", JSONDict, nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
    )
    op.create_index("uq_sets_org_id_slug", "sets", ["org_id", "slug"], unique=True)
    _unique_slugs("uq_sets_slug_public", "sets", _PUBLIC_SET)
    _unique_slugs("uq_servers_slug_public", "servers", _PUBLIC_SERVER)


def downgrade() -> None:
    op.drop_index("uq_servers_slug_public", "servers")
    op.drop_table("sets")


def _unique_slugs(name: str, table: str, where: str) -> None:
    op.create_index(name, table, ["slug"], unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
