"""Records of budgets: limits, and the ledger of each limit and period.

Amounts are whole numbers of the unit's smallest part (`registry.budgets.units`). For every period, `reserved` is the
sum of its allotments, and `spent`, `overrun` and `reserved` are the sums of its entries.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, String, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class BudgetLimit(UuidKey, Base):
    """So much of a unit in each period, for whatever is in a scope."""

    __tablename__ = "budget_limits"
    __table_args__ = (Index("ix_budget_limits_org_id_created_at", "org_id", "created_at"),)

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(String(200))
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str | None] = mapped_column(String(300))
    """As callers name it."""
    scope_key: Mapped[str] = mapped_column(String(400))
    """As calls are matched with it; see `registry.budgets.scopes`."""
    unit: Mapped[str] = mapped_column(String(16))
    amount: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[str] = mapped_column(String(8))
    action: Mapped[str] = mapped_column(String(8))
    """`warn`, `block` or `pause`."""
    alert_threshold: Mapped[float] = mapped_column(Float)
    paused_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    """Grows with every change, so that processes see by one sum whether anything did."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class BudgetPeriod(UuidKey, Base):
    """The ledger of one limit in one window of time."""

    __tablename__ = "budget_periods"
    __table_args__ = (
        UniqueConstraint("limit_id", "period", "starts_at"),
        CheckConstraint("spent >= 0 AND reserved >= 0 AND overrun >= 0", name="not_negative"),
    )

    limit_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("budget_limits.id"))
    period: Mapped[str] = mapped_column(String(8))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    spent: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved: Mapped[int] = mapped_column(BigInteger, default=0)
    """Held by processes: for calls under way, or for calls to come."""
    overrun: Mapped[int] = mapped_column(BigInteger, default=0)
    """Used beyond what had been reserved, where a cost is known only afterwards."""
    told: Mapped[int] = mapped_column(default=0)
    """The highest threshold that has been told, in thousandths."""


class BudgetHolder(UuidKey, Base):
    """A process that takes allotments, alive until `expires_at` unless it renews that."""

    __tablename__ = "budget_holders"

    expires_at: Mapped[datetime] = mapped_column(index=True)
    sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    """Number of the latest settlement, so that one that was sent twice is booked once."""


class BudgetAllotment(Base):
    """What one process holds of one period."""

    __tablename__ = "budget_allotments"
    __table_args__ = (CheckConstraint("reserved >= 0", name="not_negative"),)

    holder_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("budget_holders.id"), primary_key=True)
    period_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("budget_periods.id"), primary_key=True, index=True
    )
    reserved: Mapped[int] = mapped_column(BigInteger)


class BudgetEntry(Base):
    """What one process did to one period within one minute. Only ever added to; outlives its holder."""

    __tablename__ = "budget_entries"

    period_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("budget_periods.id"), primary_key=True)
    holder_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    granted: Mapped[int] = mapped_column(BigInteger, default=0)
    spent: Mapped[int] = mapped_column(BigInteger, default=0)
    returned: Mapped[int] = mapped_column(BigInteger, default=0)
    lapsed: Mapped[int] = mapped_column(BigInteger, default=0)
    """Held when the process died, and since then spent."""
    overrun: Mapped[int] = mapped_column(BigInteger, default=0)
