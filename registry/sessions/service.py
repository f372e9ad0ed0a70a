"""Records of legacy sessions in the database, for one process and for several.

Its contract is `gateway.mcp.session_store`; `registry.sessions.redis` fulfils the same one. A record that has expired
counts as none, and is removed within `PURGE_SECONDS` as long as anything is saved at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select

from registry.core.clock import Clock
from registry.core.db import Database, Session, insert_into, new_id
from registry.core.errors import Unavailable
from registry.sessions.models import StoredSession
from registry.sessions.patch import Fields, Patch

PURGE_SECONDS = 600.0
_FEW_AT_ONCE = {"insertmanyvalues_page_size": 16}
"""Each number of rows is another statement, and connections keep what they compiled: few numbers, little memory."""


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
        # In order, so that no two savers wait for each other.
        wanted = {patch.key: patch for patch in sorted(patches, key=lambda patch: patch.key)}
        async with self._database.transaction() as session:
            stored = await self._made(session, wanted.values())
            now = self._clock.now()
            for row in await self._locked(session, [key for key in wanted if key not in stored]):
                patch = wanted[row.key]
                row.fields = patch.applied(row.fields if row.expires_at > now else {})
                row.writer = self._writer
                row.changed_at = now
                row.expires_at = now + timedelta(seconds=patch.seconds)
                stored[row.key] = dict(row.fields)
            if len(stored) < len(wanted):
                raise Unavailable("Records of sessions were purged while they were changed: save them again.")
            await self._purge(session)
            return stored

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

    async def _made(self, session: Session, patches: Iterable[Patch]) -> dict[str, Fields]:
        """Make the records that there are none of; gives these. Most sessions have one only when they end."""
        now = self._clock.now()
        new: dict[str, dict[str, Any]] = {
            patch.key: {
                "key": patch.key,
                "fields": patch.applied({}),
                "writer": self._writer,
                "changed_at": now,
                "expires_at": now + timedelta(seconds=patch.seconds),
            }
            for patch in patches
        }
        insert = insert_into(session, StoredSession).on_conflict_do_nothing().returning(StoredSession.key)
        made = await session.scalars(insert, list(new.values()), execution_options=_FEW_AT_ONCE)
        return {key: new[key]["fields"] for key in made}

    async def _locked(self, session: Session, keys: Sequence[str]) -> Sequence[StoredSession]:
        if not keys:
            return ()
        rows = select(StoredSession).where(StoredSession.key.in_(keys)).order_by(StoredSession.key).with_for_update()
        return (await session.scalars(rows)).all()

    async def _purge(self, session: Session) -> None:
        if self._clock.monotonic() < self._purged_at + PURGE_SECONDS:
            return
        self._purged_at = self._clock.monotonic()
        await session.flush()
        expired = delete(StoredSession).where(StoredSession.expires_at <= self._clock.now())
        await session.execute(expired, execution_options={"synchronize_session": False})
