"""The ledger adds up: what must hold after any transaction, read from the tables themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from registry.budgets.models import BudgetAllotment, BudgetEntry, BudgetLimit, BudgetPeriod
from registry.core.db import Database


@dataclass(frozen=True)
class Account:
    """One period's row."""

    amount: int
    action: str
    spent: int
    reserved: int
    overrun: int
    told: int


async def accounts(database: Database) -> list[Account]:
    """Every period's row, checked against its allotments and entries, oldest first.

    One statement reads it all: processes that work on meanwhile change nothing between two parts of it.
    """
    period, limit, entry = BudgetPeriod, BudgetLimit, BudgetEntry
    entered = (entry.granted, entry.spent, entry.returned, entry.lapsed, entry.overrun)
    query = (
        select(
            limit.amount,
            limit.action,
            *(period.spent, period.reserved, period.overrun, period.told),
            _sum(BudgetAllotment.reserved, BudgetAllotment.period_id),
            *(_sum(column, entry.period_id) for column in entered),
        )
        .join(limit, limit.id == period.limit_id)
        .order_by(period.starts_at)
    )
    found: list[Account] = []
    async with database.reading() as session:
        rows = (await session.execute(query)).all()
    for *columns, held, granted, spent, returned, lapsed, overrun in rows:
        account = Account(*columns)
        assert account.reserved == held == granted - spent - returned - lapsed
        assert account.spent == spent + lapsed
        assert account.overrun == overrun
        found.append(account)
    return found


def _sum(column: Any, period_id: Any) -> Any:
    """Over the rows of one period; 0 for none."""
    return select(func.coalesce(func.sum(column), 0)).where(period_id == BudgetPeriod.id).scalar_subquery()
