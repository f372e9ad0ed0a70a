"""Records of legacy sessions in the database, for one process and for several.

Its contract is `gateway.mcp.session_store`; `registry.sessions.redis` fulfils the same one. A record that has expired
counts as none, and is removed within `PURGE_SECONDS` as long as anything is saved at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select

from registry.core.clock import Clock
from registry.core.db import Database, Session, insert_into, new_id
from registry.sessions.models import StoredSession
from registry.sessions.patch import Fields, Patch

PURGE_SECONDS = 600.0


class StoredSessions:
    """The records, as one process reads and writes them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._writer = new_id()
        self._purged_at = clock.monotonic()

    async def load(self, key: str) -> Fields | None:
        alive = select(StoredSession.fields).where(
            StoredSession.key == key, StoredSession.expires_at > self._clock.now()
        )
        async with self._database.reading() as session:
            return await session.scalar(alive)

    async def save(self, patches: Sequence[Patch]) -> Mapping[str, Fields]:
        """Apply all patches in one transaction; gives the records as they are then."""
        async with self._database.transaction() as session:
            rows = await self._locked(session, sorted(patch.key for patch in patches))
            now = self._clock.now()
            for patch in patches:
                row = rows[patch.key]
                row.fields = patch.applied(row.fields if row.expires_at > now else {})
                row.writer = self._writer
                row.changed_at = now
                row.expires_at = now + timedelta(seconds=patch.seconds)
            await self._purge(session)
            return {key: dict(row.fields) for key, row in rows.items()}

    async def changed(self, seconds: float) -> Mapping[str, Fields]:
        now = self._clock.now()
        recent = select(StoredSession.key, StoredSession.fields).where(
            StoredSession.changed_at > now - timedelta(seconds=seconds),
            StoredSession.writer != self._writer,
            StoredSession.expires_at > now,
        )
        async with self._database.reading() as session:
            return {row.key: row.fields for row in await session.execute(recent)}

    async def close(self) -> None:
        """The database is its owner's to close."""

    async def _locked(self, session: Session, keys: Sequence[str]) -> dict[str, StoredSession]:
        """The rows of these keys, made where there are none; in order, so that no two savers wait for each other."""
        now = self._clock.now()
        new: list[dict[str, Any]] = [
            {"key": key, "fields": {}, "writer": self._writer, "changed_at": now, "expires_at": now} for key in keys
        ]
        insert = insert_into(session, StoredSession)
        await session.execute(insert.on_conflict_do_nothing(), new)
        rows = select(StoredSession).where(StoredSession.key.in_(keys)).order_by(StoredSession.key).with_for_update()
        return {row.key: row for row in await session.scalars(rows)}

    async def _purge(self, session: Session) -> None:
        if self._clock.monotonic() < self._purged_at + PURGE_SECONDS:
            return
        self._purged_at = self._clock.monotonic()
        await session.flush()
        expired = delete(StoredSession).where(StoredSession.expires_at <= self._clock.now())
        await session.execute(expired, execution_options={"synchronize_session": False})
