"""Approvals of single calls, and the rules that ask for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict, UTCDateTime

revision = "0061"
down_revision = "0060"

_OPEN = sa.text("status IN ('waiting', 'approved')")


def upgrade() -> None:
    op.create_table(
        "approval_rules",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False, index=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("destructive", sa.Boolean(), nullable=False),
        sa.Column("argument", JSONDict),
        sa.Column("min_price_usd", sa.Numeric(18, 9)),
        sa.Column("ask", sa.String(16), nullable=False),
        sa.Column("expires_seconds", sa.Integer(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("binding", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("rule_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("rule", sa.String(255), nullable=False),
        sa.Column("ask", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("user_id", sa.String(36)),
        sa.Column("key_id", sa.Integer()),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sealed_arguments", sa.Text(), nullable=False),
        sa.Column("arguments_bytes", sa.Integer(), nullable=False),
        sa.Column("expires_seconds", sa.Integer(), nullable=False),
        sa.Column("asked_at", UTCDateTime(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.Column("decided_at", UTCDateTime()),
        sa.Column("decided_by", sa.String(80)),
        sa.Column("decided_over", sa.String(16)),
        sa.Column("reason", sa.Text()),
        sa.Column("used_at", UTCDateTime()),
    )
    op.create_index(
        "uq_approvals_binding_open", "approvals", ["binding"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
    )
    op.create_index("ix_approvals_org_id_asked_at", "approvals", ["org_id", "asked_at"])
    op.create_index("ix_approvals_binding", "approvals", ["binding"])


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_table("approval_rules")
