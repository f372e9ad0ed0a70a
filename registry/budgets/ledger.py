"""The ledger: what is spent and reserved of every limit and period, kept in the database, true over all processes.

A process takes an allotment by one conditional update, settles in batches, and holds a lease that it renews. When the
lease runs out, whatever it held becomes spent: it may have been used, so it is never free again. Every transaction of
a holder locks the holder's row first, so that no process goes on with what has been booked as spent.

Which call may pass is decided in memory by `registry.budgets.desk`, out of what was taken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from registry.audit.service import AuditService
from registry.budgets.errors import LeaseLost
from registry.budgets.events import BudgetAlert, LimitsChanged
from registry.budgets.models import BudgetAllotment, BudgetEntry, BudgetHolder, BudgetLimit, BudgetPeriod
from registry.budgets.units import from_parts, unit_named
from registry.budgets.windows import Window
from registry.core.clock import Clock
from registry.core.db import Database, Session, emit, new_id

LEASE_SECONDS = 15
SHARE = 8
"""Beside what waiting calls need, at most one part in so many of what is left is taken: near the limit, nothing."""
REACHED = 1000
"""The limit itself, in thousandths, as `BudgetPeriod.told` counts."""

Refusal = Literal["exceeded", "paused"]


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a demand.

    Args:
        period_id: `None` where the limit is gone, and so refuses nothing any more.
        amount: taken, for those of the demands that fit and perhaps for calls to come.
        extra: the part of `amount` that nobody waits for.
        refusal: why some demands were not met.
    """

    period_id: str | None
    amount: int = 0
    extra: int = 0
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """What has become of a part of one allotment.

    Args:
        spent: of what was reserved.
        returned: of what was reserved, unused.
        overrun: used beyond it.
    """

    period_id: str
    spent: int = 0
    returned: int = 0
    overrun: int = 0


@dataclass(frozen=True, slots=True)
class _System:
    """Who acts when a limit pauses itself, or tells that it is nearly used up."""

    org_id: str
    user_id: str | None = None
    key_id: int | None = None
    subject: str = "system:budgets"


class Ledger:
    """One process's access to the ledger. Its lease begins with the first allotment."""

    def __init__(self, database: Database, clock: Clock, audit: AuditService) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._insert: Any = (postgresql if database.url.get_backend_name() == "postgresql" else sqlite).insert
        self._opened = False
        self._renewed: datetime | None = None
        self.holder_id = new_id()
        self.sequence = 0

    # -- taking

    async def take(self, limit_id: str, window: Window, demands: Sequence[int], extra: int, piece: int = 1) -> Grant:
        """Reserve for waiting calls, in their order as far as they fit, and more for calls to come.

        Args:
            extra: at most so much more, in whole pieces.
            piece: what one call to come will need.

        Raises:
            LeaseLost: see there.
        """
        holder = self.holder_id
        async with self._database.transaction() as session:
            await self._hold(session, holder)
            limit = await session.get(BudgetLimit, limit_id)
            if limit is None or limit.deleted_at is not None:
                return Grant(None)
            period = await self._period(session, limit_id, window)
            if limit.paused_at is not None:
                return Grant(period.id, refusal="paused")
            capped = limit.action != "warn"
            room = max(0, limit.amount - period.spent - period.overrun - period.reserved) if capped else None
            needed = _fitting(demands, room)
            more = min(extra, limit.amount // SHARE if room is None else (room - needed) // SHARE)
            more -= more % piece
            if needed + more:
                await self._reserve(session, holder, period.id, needed + more, limit_id if capped else None)
            refusal = await self._refuse(session, limit, period) if needed < sum(demands) else None
        # It may have been reopened meanwhile, for another taking found the lease lost.
        self._opened = self._opened or holder == self.holder_id
        return Grant(period.id, needed + more, more, refusal)

    async def _hold(self, session: Session, holder: str) -> None:
        """Make sure that the lease is ours until the transaction ends."""
        if not self._opened and holder == self.holder_id:
            values = {"id": holder, "expires_at": self._expiry(), "sequence": 0}
            await session.execute(self._insert(BudgetHolder).values(values).on_conflict_do_nothing())
        mine = select(BudgetHolder.id).where(BudgetHolder.id == holder).with_for_update(read=True)
        if await session.scalar(mine) is None:
            raise LeaseLost(f"The lease {holder} has run out.")

    async def _period(self, session: Session, limit_id: str, window: Window) -> BudgetPeriod:
        """The window's row, locked."""
        found = (
            select(BudgetPeriod)
            .where(
                BudgetPeriod.limit_id == limit_id,
                BudgetPeriod.period == window.period,
                BudgetPeriod.starts_at == window.starts_at,
            )
            .with_for_update()
        )
        if (period := await session.scalar(found)) is not None:
            return period
        values = {
            "id": new_id(),
            "limit_id": limit_id,
            "period": window.period,
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
        }
        await session.execute(self._insert(BudgetPeriod).values(values).on_conflict_do_nothing())
        return (await session.scalars(found)).one()

    async def _reserve(self, session: Session, holder: str, period_id: str, amount: int, capped_by: str | None) -> None:
        grant = update(BudgetPeriod).where(BudgetPeriod.id == period_id)
        if capped_by is not None:
            cap = select(BudgetLimit.amount).where(BudgetLimit.id == capped_by).scalar_subquery()
            grant = grant.where(BudgetPeriod.spent + BudgetPeriod.overrun + BudgetPeriod.reserved + amount <= cap)
        grant = grant.values(reserved=BudgetPeriod.reserved + amount).returning(BudgetPeriod.id)
        # The row is locked since it was read, so this fits; it is asked again where it counts.
        (await session.execute(grant, execution_options={"synchronize_session": False})).scalar_one()
        held = self._insert(BudgetAllotment).values(holder_id=holder, period_id=period_id, reserved=amount)
        held = held.on_conflict_do_update(
            index_elements=[BudgetAllotment.holder_id, BudgetAllotment.period_id],
            set_={"reserved": BudgetAllotment.reserved + held.excluded.reserved},
        )
        await session.execute(held)
        await self._enter(session, period_id, holder, granted=amount)

    async def _refuse(self, session: Session, limit: BudgetLimit, period: BudgetPeriod) -> Refusal:
        await self._tell(session, limit, period, REACHED)
        if limit.action != "pause":
            return "exceeded"
        limit.paused_at = limit.updated_at = self._clock.now()
        limit.version += 1
        emit(session, LimitsChanged(limit.org_id))
        target = ("budget_limit", limit.id)
        await self._audit.record(session, _System(limit.org_id), "budgets.limits.pause", target=target)
        return "paused"

    # -- settling

    async def book(self, bookings: Sequence[Booking], sequence: int) -> None:
        """Settle a batch, and renew the lease.

        Args:
            sequence: one more than the last; a batch that is sent again, since nobody knows whether it was
                committed, is booked once.

        Raises:
            LeaseLost: see there.
        """
        holder = self.holder_id
        async with self._database.transaction() as session:
            if not await self._renew(session, holder, sequence):
                return
            # In one order everywhere, so that processes wait for each other and never in a circle.
            for booking in sorted(bookings, key=lambda booking: booking.period_id):
                await self._book(session, holder, booking)

    async def _renew(self, session: Session, holder: str, sequence: int) -> bool:
        """Renew the lease; whether this batch is new."""
        known = select(BudgetHolder.sequence).where(BudgetHolder.id == holder).with_for_update()
        before = await session.scalar(known)
        if before is None:
            raise LeaseLost(f"The lease {holder} has run out.")
        renewal = update(BudgetHolder).where(BudgetHolder.id == holder)
        await session.execute(renewal.values(expires_at=self._expiry(), sequence=sequence))
        self._renewed = self._clock.now()
        return before < sequence

    async def _book(self, session: Session, holder: str, booking: Booking) -> None:
        used = booking.spent + booking.returned
        settled = (
            update(BudgetPeriod)
            .where(BudgetPeriod.id == booking.period_id)
            .values(
                spent=BudgetPeriod.spent + booking.spent,
                reserved=BudgetPeriod.reserved - used,
                overrun=BudgetPeriod.overrun + booking.overrun,
            )
            .returning(BudgetPeriod)
        )
        period = (await session.scalars(settled)).one()
        if used:
            await session.execute(
                update(BudgetAllotment)
                .where(BudgetAllotment.holder_id == holder, BudgetAllotment.period_id == booking.period_id)
                .values(reserved=BudgetAllotment.reserved - used),
                execution_options={"synchronize_session": False},
            )
        await self._enter(
            session,
            booking.period_id,
            holder,
            spent=booking.spent,
            returned=booking.returned,
            overrun=booking.overrun,
        )
        if booking.spent or booking.overrun:
            limit = await session.get_one(BudgetLimit, period.limit_id)
            await self._tell(session, limit, period, reached(limit, period.spent + period.overrun))

    async def _tell(self, session: Session, limit: BudgetLimit, period: BudgetPeriod, thousandths: int) -> None:
        """Publish and record an alert, unless one of this height has been in this period."""
        if thousandths <= period.told:
            return
        period.told = thousandths
        unit = unit_named(limit.unit)
        alert = BudgetAlert(
            org_id=limit.org_id,
            limit_id=limit.id,
            name=limit.name,
            level="critical" if thousandths >= REACHED else "warning",
            scope_type=limit.scope_type,
            scope_id=limit.scope_id,
            unit=unit,
            period=limit.period,
            action=limit.action,
            current=from_parts(unit, period.spent + period.overrun),
            limit=from_parts(unit, limit.amount),
            resets_at=period.ends_at,
        )
        emit(session, alert)
        await self._audit.record(
            session,
            _System(limit.org_id),
            "budgets.limits.alert",
            target=("budget_limit", limit.id),
            detail={"level": alert.level, "message": alert.message, "resets_at": alert.resets_at.isoformat()},
        )

    async def _enter(self, session: Session, period_id: str, holder_id: str, **amounts: int) -> None:
        minute = self._clock.now().replace(second=0, microsecond=0)
        entry = self._insert(BudgetEntry).values(period_id=period_id, holder_id=holder_id, minute=minute, **amounts)
        added = {name: getattr(BudgetEntry, name) + amount for name, amount in amounts.items()}
        keys = [BudgetEntry.period_id, BudgetEntry.holder_id, BudgetEntry.minute]
        await session.execute(entry.on_conflict_do_update(index_elements=keys, set_=added))

    # -- living and dying

    def _expiry(self) -> datetime:
        return self._clock.now() + timedelta(seconds=LEASE_SECONDS)

    async def renew(self) -> None:
        """Renew the lease, when a third of it has passed. Raises `LeaseLost`."""
        now = self._clock.now()
        if not self._opened or (self._renewed and now < self._renewed + timedelta(seconds=LEASE_SECONDS / 3)):
            return
        async with self._database.transaction() as session:
            await self._renew(session, self.holder_id, self.sequence)

    def reopen(self) -> None:
        """Begin a new lease with the next allotment."""
        self.holder_id = new_id()
        self.sequence = 0
        self._opened = False
        self._renewed = None

    async def lapse(self) -> int:
        """Book what dead processes held as spent; how many there were."""
        async with self._database.reading() as session:
            dead = select(BudgetHolder.id).where(BudgetHolder.expires_at < self._clock.now())
            found = [holder for holder in (await session.scalars(dead)).all() if holder != self.holder_id]
        return sum([await self._lapse(holder) for holder in found])

    async def _lapse(self, holder_id: str) -> bool:
        async with self._database.transaction() as session:
            dead = (
                select(BudgetHolder.id)
                .where(BudgetHolder.id == holder_id, BudgetHolder.expires_at < self._clock.now())
                .with_for_update(skip_locked=True)
            )
            if await session.scalar(dead) is None:
                return False
            for period_id, reserved in await self._held_by(session, holder_id):
                lapsed = (
                    update(BudgetPeriod)
                    .where(BudgetPeriod.id == period_id)
                    .values(reserved=BudgetPeriod.reserved - reserved, spent=BudgetPeriod.spent + reserved)
                )
                await session.execute(lapsed, execution_options={"synchronize_session": False})
                await self._enter(session, period_id, holder_id, lapsed=reserved)
            await self._forget(session, holder_id)
            return True

    async def close(self) -> None:
        """End the lease; what was taken and never used is free again. Settle first."""
        if not self._opened:
            return
        async with self._database.transaction() as session:
            mine = select(BudgetHolder.id).where(BudgetHolder.id == self.holder_id).with_for_update()
            if await session.scalar(mine) is not None:
                for period_id, reserved in await self._held_by(session, self.holder_id):
                    await self._book(session, self.holder_id, Booking(period_id, returned=reserved))
                await self._forget(session, self.holder_id)
        self.reopen()

    async def _held_by(self, session: Session, holder_id: str) -> list[tuple[str, int]]:
        held = (
            select(BudgetAllotment.period_id, BudgetAllotment.reserved)
            .where(BudgetAllotment.holder_id == holder_id, BudgetAllotment.reserved > 0)
            .order_by(BudgetAllotment.period_id)
        )
        return [(period_id, reserved) for period_id, reserved in (await session.execute(held)).all()]

    async def _forget(self, session: Session, holder_id: str) -> None:
        await session.execute(delete(BudgetAllotment).where(BudgetAllotment.holder_id == holder_id))
        await session.execute(delete(BudgetHolder).where(BudgetHolder.id == holder_id))


def reached(limit: BudgetLimit, used: int) -> int:
    """The highest threshold, in thousandths, that a use has come to; 0 for none."""
    if used >= limit.amount:
        return REACHED
    return round(limit.alert_threshold * REACHED) if used >= limit.alert_threshold * limit.amount else 0


def _fitting(demands: Sequence[int], room: int | None) -> int:
    """The sum of the demands that fit, first come, first served."""
    if room is None:
        return sum(demands)
    total = 0
    for demand in demands:
        if total + demand <= room:
            total += demand
    return total
