"""Chains that hold the records of changes and calls together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0021"
down_revision = "0020"

_LINKED = ("audit_entries", "calls")


def upgrade() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("fields", JSONDict, nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("advanced_at", UTCDateTime(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("seen", JSONDict, nullable=False),
        sa.Column("seal", sa.String(64), nullable=False),
    )
    for table in _LINKED:
        op.add_column(table, sa.Column("chain_id", sa.BigInteger()))
        op.add_column(table, sa.Column("chain_seq", sa.BigInteger()))
        op.add_column(table, sa.Column("chain_hash", sa.LargeBinary(32)))
    op.create_index("uq_audit_entries_chain_id_chain_seq", "audit_entries", ["chain_id", "chain_seq"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_audit_entries_chain_id_chain_seq", "audit_entries")
    for table in _LINKED:
        for column in ("chain_hash", "chain_seq", "chain_id"):
            op.drop_column(table, column)
    op.drop_table("audit_chains")
