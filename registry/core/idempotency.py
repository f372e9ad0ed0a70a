"""Remembers the first result of an operation that a client may ask for again, in the transaction that made it.

Two that ask at once wait for each other in the database; the second finds the first one's result. Results are sealed,
since some hold what is shown only once. Knows nothing of HTTP: `gateway.api.shared.idempotency` decides what counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import String, delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.clock import Clock
from registry.core.db import Base, Session, insert_into
from registry.core.errors import Conflict
from registry.core.security import Sealer

KEPT = timedelta(hours=48)


class IdempotencyKeyReused(Conflict):
    """The key stands for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"


class IdempotencyRecord(Base):
    """The first result of an operation. `scope` says whose and which; `fingerprint` with what content."""

    __tablename__ = "idempotency_records"

    scope: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    sealed_body: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class KeptResult:
    status: int
    body: bytes


class IdempotencyStore:
    def __init__(self, clock: Clock, master: bytes) -> None:
        self._clock = clock
        self._sealer = Sealer(master, "idempotency")

    async def claim(self, session: Session, scope: str, fingerprint: str) -> KeptResult | None:
        """Reserve `scope` for this transaction; waits for one that holds it.

        Args:
            scope: digest of who asks for which operation under which key.
            fingerprint: digest of the request's content.

        Returns:
            `None` if this is the first time, else the first result.

        Raises:
            IdempotencyKeyReused: the content differs from the first time.
        """
        if await self._reserve(session, scope, fingerprint):
            return None
        record = (await session.execute(select(IdempotencyRecord).where(IdempotencyRecord.scope == scope))).scalar_one()
        if record.fingerprint != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used for a request with another content.")
        return KeptResult(record.status, self._sealer.open(record.sealed_body, scope))

    async def keep(self, session: Session, scope: str, result: KeptResult) -> None:
        """Store the result of the operation that this transaction reserved."""
        record = await session.get_one(IdempotencyRecord, scope)
        record.status, record.sealed_body = result.status, self._sealer.seal(result.body, scope)
        await session.flush()

    async def purge(self, session: Session) -> int:
        """Remove what has expired; for a periodic job. Returns how many."""
        expired = delete(IdempotencyRecord).where(IdempotencyRecord.expires_at <= self._clock.now())
        result = await session.execute(expired)
        return result.rowcount if isinstance(result, CursorResult) else 0

    async def _reserve(self, session: Session, scope: str, fingerprint: str) -> bool:
        now = self._clock.now()
        values: dict[str, Any] = {
            "fingerprint": fingerprint,
            "status": 0,
            "sealed_body": "",
            "expires_at": now + KEPT,
        }
        # One statement, so that of two at once the second waits and then sees the first. An expired one counts as none.
        statement = (
            insert_into(session, IdempotencyRecord)
            .values(scope=scope, **values)
            .on_conflict_do_update(
                index_elements=[IdempotencyRecord.scope], set_=values, where=IdempotencyRecord.expires_at <= now
            )
            .returning(IdempotencyRecord.scope)
        )
        return (await session.execute(statement)).scalar_one_or_none() is not None
