"""Changes of what organisations offer, made by any process: a number per organisation that grows with each.

It grows in the transaction that emits an `OffersChanged`, whichever feature does, so none can be forgotten and none is
lost. `CatalogChanges` reads all numbers every `POLL_SECONDS` and tells which organisations changed; a change made in
this process is told twice, first by its event. Neighbours: `registry.servers.events`, and the data path's refresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import BigInteger, Uuid, event, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as OrmSession

from registry.core.clock import Clock
from registry.core.db import Base, Database, emitted, insert_into
from registry.core.repeating import Repeating
from registry.servers.events import OffersChanged

POLL_SECONDS = 0.5
READ_SECONDS = 10.0
"""Longest that one reading may take."""


class OffersVersion(Base):
    """How often an organisation's offers have changed."""

    __tablename__ = "offers_versions"

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)


class CatalogChanges:
    """Follows the numbers.

    Args:
        changed: is told the id of each organisation whose offers have changed.
    """

    def __init__(self, database: Database, clock: Clock, changed: Callable[[str], None]) -> None:
        self._database = database
        self._changed = changed
        self._known: dict[str, int] = {}
        complaint = "changes by other processes cannot be seen, trying again"
        self._polling = Repeating(clock, POLL_SECONDS, self.poll, complaint)

    async def start(self) -> None:
        """Begin; what is loaded after this misses no change."""
        self._known = await self._read()
        self._polling.start()

    async def stop(self) -> None:
        await self._polling.stop()

    async def poll(self) -> None:
        """Read the numbers once, and tell what changed."""
        before, self._known = self._known, await self._read()
        for org_id, version in self._known.items():
            if before.get(org_id) != version:
                self._changed(org_id)

    async def _read(self) -> dict[str, int]:
        async with asyncio.timeout(READ_SECONDS), self._database.reading() as session:
            rows = await session.scalars(select(OffersVersion))
            return {row.org_id: row.version for row in rows}


def _count(session: OrmSession) -> None:
    """Count the changes of a transaction that is about to be committed.

    Everything else is flushed first, and organisations come in order: no two transactions wait for each other.
    """
    if session.in_nested_transaction():
        return
    changed = sorted({change.org_id for change in emitted(session) if isinstance(change, OffersChanged)})
    if not changed:
        return
    session.flush()
    for org_id in changed:
        first = insert_into(session, OffersVersion).values(org_id=org_id, version=1)
        session.execute(
            first.on_conflict_do_update(
                index_elements=[OffersVersion.org_id], set_={"version": OffersVersion.version + 1}
            )
        )


# Before the audit log's own hook, whose lock must be the last that a transaction takes.
event.listen(OrmSession, "before_commit", _count, insert=True)
