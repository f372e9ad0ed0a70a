"""Budget limits, their ledger, and prices of tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import UTCDateTime

revision = "0010"
down_revision = "0003"


def upgrade() -> None:
    _create_limits()
    _create_periods()
    _create_holdings()
    op.create_table(
        "tool_prices",
        sa.Column(
            "server_id", sa.Uuid(as_uuid=False), sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("tool", sa.Text(), primary_key=True),
        sa.Column("price_usd", sa.Numeric(18, 9), nullable=False),
    )


def downgrade() -> None:
    for table in (
        "tool_prices",
        "budget_entries",
        "budget_allotments",
        "budget_holders",
        "budget_periods",
        "budget_limits",
    ):
        op.drop_table(table)


def _create_limits() -> None:
    op.create_table(
        "budget_limits",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("org_id", sa.Uuid(as_uuid=False), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("scope_type", sa.String(16), nullable=False),
        sa.Column("scope_id", sa.String(300)),
        sa.Column("scope_key", sa.String(400), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("alert_threshold", sa.Float(), nullable=False),
        sa.Column("paused_at", UTCDateTime()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.Column("deleted_at", UTCDateTime()),
    )
    op.create_index("ix_budget_limits_org_id_created_at", "budget_limits", ["org_id", "created_at"])


def _create_periods() -> None:
    op.create_table(
        "budget_periods",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("limit_id", sa.Uuid(as_uuid=False), sa.ForeignKey("budget_limits.id"), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("starts_at", UTCDateTime(), nullable=False),
        sa.Column("ends_at", UTCDateTime(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("overrun", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.UniqueConstraint("limit_id", "period", "starts_at"),
        sa.CheckConstraint("spent >= 0 AND reserved >= 0 AND overrun >= 0", name="not_negative"),
    )


def _create_holdings() -> None:
    period = "budget_periods.id"
    op.create_table(
        "budget_holders",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("expires_at", UTCDateTime(), nullable=False, index=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "budget_allotments",
        sa.Column("holder_id", sa.Uuid(as_uuid=False), sa.ForeignKey("budget_holders.id"), primary_key=True),
        sa.Column("period_id", sa.Uuid(as_uuid=False), sa.ForeignKey(period), primary_key=True, index=True),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved >= 0", name="not_negative"),
    )
    op.create_table(
        "budget_entries",
        sa.Column("period_id", sa.Uuid(as_uuid=False), sa.ForeignKey(period), primary_key=True),
        sa.Column("holder_id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("minute", UTCDateTime(), primary_key=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("granted", "spent", "returned", "lapsed", "overrun")
        ),
    )
