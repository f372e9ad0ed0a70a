"""Accounts at servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0073"
down_revision = "0072"


def _server() -> sa.ForeignKey:
    return sa.ForeignKey("servers.id", ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "server_logins",
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), primary_key=True),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.Text()),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("endpoints", JSONDict, nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "server_accounts",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expires_at", UTCDateTime()),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
    )
    op.create_index("uq_server_accounts_server_id_holder", "server_accounts", ["server_id", "holder"], unique=True)
    op.create_table(
        "account_connections",
        sa.Column("state_hash", sa.String(64), primary_key=True),
        sa.Column("server_id", sa.Uuid(as_uuid=False), _server(), nullable=False),
        sa.Column("user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
    )


def downgrade() -> None:
    for table in ("account_connections", "server_accounts", "server_logins"):
        op.drop_table(table)
