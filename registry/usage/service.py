"""Usage: writes the records of calls in bulk, and answers questions about them.

The data path collects records and hands them over in batches (`gateway.mcp.records`); nothing here is on its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.dialects import postgresql, sqlite

from registry.core.db import Database, Session
from registry.identity.principal import Principal
from registry.usage.calls import Call
from registry.usage.models import CallRecord

_COLUMNS = ", ".join(Call._fields)
_PLACES = {
    sqlite.dialect.name: ["?" for _ in Call._fields],
    postgresql.dialect.name: [f"${number}" for number in range(1, len(Call._fields) + 1)],
}


@dataclass(frozen=True, slots=True)
class CallFilter:
    since: datetime | None = None
    until: datetime | None = None
    server: str | None = None
    name: str | None = None
    outcome: str | None = None


class UsageService:
    def __init__(self, database: Database) -> None:
        self._database = database
        places = ", ".join(_PLACES[database.url.get_backend_name()])
        self._insert = f"INSERT INTO calls ({_COLUMNS}) VALUES ({places})"  # noqa: S608 - made of constants only

    async def write(self, calls: Sequence[Call]) -> None:
        """Store a batch durably, in its own transaction.

        It goes past the ORM: thousands of rows a second share the process with the calls themselves.
        """
        async with self._database.transaction() as session:
            connection = await session.connection()
            await connection.exec_driver_sql(self._insert, [tuple(call) for call in calls])

    async def calls(
        self, session: Session, principal: Principal, wanted: CallFilter, *, limit: int = 50, offset: int = 0
    ) -> tuple[Sequence[CallRecord], int]:
        """Newest first, with the number of all that match."""
        principal.require("usage:read")
        query = _matching(principal, wanted)
        total = await session.scalar(select(func.count()).select_from(query.subquery()))
        rows = await session.scalars(query.order_by(CallRecord.id.desc()).limit(limit).offset(offset))
        return rows.all(), total or 0


def _matching(principal: Principal, wanted: CallFilter) -> Select[CallRecord]:
    query = select(CallRecord).where(CallRecord.org_id == principal.org_id)
    if wanted.since is not None:
        query = query.where(CallRecord.at >= int(wanted.since.timestamp() * 1e6))
    if wanted.until is not None:
        query = query.where(CallRecord.at < int(wanted.until.timestamp() * 1e6))
    for column, value in (
        (CallRecord.server_slug, wanted.server),
        (CallRecord.name, wanted.name),
        (CallRecord.outcome, wanted.outcome),
    ):
        if value is not None:
            query = query.where(column == value)
    return query
