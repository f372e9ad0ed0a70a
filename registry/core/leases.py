"""Leases: periodic work that runs in one process at a time, of all that share a database.

Whoever holds a lease renews it as long as it works; when a process dies, another takes over once the lease has run out,
which is after `SECONDS` unless the work asks for less. A lease keeps work from being done twice, it does not make it
safe to be: a process that was stopped for a while may find out late that it has lost its lease. Budgets have leases of
their own, which hold money.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import String, delete, or_, update
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.clock import Clock
from registry.core.db import Base, Database, Session, insert_into, new_id

SECONDS = 30.0


class HeldLease(Base):
    """Who does which work, until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(36))
    expires_at: Mapped[datetime]


class Lease:
    """One process's claim to one kind of work.

    Args:
        name: of the work, the same in every process.
        seconds: how long the work may lie idle after its holder has died.
    """

    def __init__(self, database: Database, clock: Clock, name: str, seconds: float = SECONDS) -> None:
        self._database = database
        self._clock = clock
        self.name = name
        self._seconds = seconds
        self._holder = new_id()
        self._renew_at = float("-inf")

    async def hold(self) -> bool:
        """Take the lease, or renew it; whether it is ours now. The database is asked once in half its time only."""
        now = self._clock.monotonic()
        if now < self._renew_at:
            return True
        async with self._database.transaction() as session:
            held = await self._claim(session)
        self._renew_at = now + self._seconds / 2 if held else float("-inf")
        return held

    async def release(self) -> None:
        """Let another process take over at once."""
        self._renew_at = float("-inf")
        mine = delete(HeldLease).where(HeldLease.name == self.name, HeldLease.holder == self._holder)
        async with self._database.transaction() as session:
            await session.execute(mine)

    async def _claim(self, session: Session) -> bool:
        now = self._clock.now()
        values = {"holder": self._holder, "expires_at": now + timedelta(seconds=self._seconds)}
        claim = (
            update(HeldLease)
            .where(HeldLease.name == self.name, or_(HeldLease.holder == self._holder, HeldLease.expires_at <= now))
            .values(values)
            .returning(HeldLease.name)
        )
        if (await session.execute(claim)).scalar_one_or_none() is not None:
            return True
        first = insert_into(session, HeldLease).values(name=self.name, **values)
        claimed = await session.execute(first.on_conflict_do_nothing().returning(HeldLease.name))
        return claimed.scalar_one_or_none() is not None
