"""The ledger adds up: what must hold after any transaction, read from the tables themselves."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Every period's row, checked against its allotments and entries, oldest first."""
    async with database.reading() as session:
        query = select(BudgetPeriod, BudgetLimit).join(BudgetLimit, BudgetLimit.id == BudgetPeriod.limit_id)
        found = []
        for period, limit in (await session.execute(query.order_by(BudgetPeriod.starts_at))).all():
            held = await session.scalar(
                select(func.coalesce(func.sum(BudgetAllotment.reserved), 0)).where(
                    BudgetAllotment.period_id == period.id
                )
            )
            entry = BudgetEntry
            columns = (entry.granted, entry.spent, entry.returned, entry.lapsed, entry.overrun)
            sums = select(*(func.coalesce(func.sum(column), 0) for column in columns))
            granted, spent, returned, lapsed, overrun = (
                await session.execute(sums.where(entry.period_id == period.id))
            ).one()
            assert period.reserved == held == granted - spent - returned - lapsed
            assert period.spent == spent + lapsed
            assert period.overrun == overrun
            found.append(
                Account(limit.amount, limit.action, period.spent, period.reserved, period.overrun, period.told)
            )
        return found
