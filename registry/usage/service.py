"""Usage: writes the records of calls in bulk, and answers questions about them.

The data path collects records and hands them over in batches (`gateway.mcp.records`); nothing here is on its path.
Each row is linked into the process's chain (`registry.audit.chain`), so that one row serves usage and audit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.audit.chain import Chain
from registry.audit.verify import LinkedTable
from registry.core.clock import Clock
from registry.core.db import Database, Session
from registry.identity.principal import Principal
from registry.usage import queries
from registry.usage.calls import Call
from registry.usage.models import CallRecord
from registry.usage.queries import CallFilter
from registry.usage.views import CallView, GroupBy, Usage, UsageGroup, call_view, time_of

READ = "usage:read"
CALLS = "calls"
CALLS_TABLE = LinkedTable(CALLS, CallRecord, (CallRecord.id,), time_of)

_NAMES = (*Call._fields, "chain_id", "chain_seq", "chain_hash")
_INSERT = f"INSERT INTO calls ({', '.join(_NAMES)}) VALUES "  # noqa: S608 - names only
_SQLITE_ROWS = (256, 64, 16, 4, 1)
"""Rows of one statement. Each step of SQLite's gives the interpreter's lock away and takes it back, which costs the
calls under way more than the row does: many rows a step, by few different statements, cost them next to nothing."""
_SQLITE_ROW = f"({', '.join('?' for _ in _NAMES)})"
_SQLITE = {rows: _INSERT + ", ".join([_SQLITE_ROW] * rows) for rows in _SQLITE_ROWS}
_POSTGRESQL = _INSERT + f"({', '.join(f'${number}' for number in range(1, len(_NAMES) + 1))})"


class UsageService:
    """Records of calls.

    Args:
        key: seals the chain's head; see `registry.audit.service.AuditService`.
    """

    def __init__(self, database: Database, clock: Clock, key: bytes = b"") -> None:
        self._database = database
        self._insert = (
            _insert_postgresql if database.url.get_backend_name() == postgresql.dialect.name else _insert_sqlite
        )
        self.chain = Chain(CALLS, Call._fields, key, clock, batches=True)

    async def write(self, calls: Sequence[Call]) -> None:
        """Store a batch durably, in its own transaction.

        It goes past the ORM: thousands of rows a second share the process with the calls themselves. A batch whose
        commit was never confirmed may be given again, with more calls behind it, and is stored once.
        """
        if not (self._database.writes_behind and await self._written_behind(calls)):
            async with self._database.transaction() as session:
                links = await session.run_sync(self.chain.append, calls)
                if links:
                    await self._insert(await session.connection(), _rows(calls[len(calls) - len(links) :], links))
        self.chain.confirm()

    async def _written_behind(self, calls: Sequence[Call]) -> bool:
        """Whether they could be stored with nothing but what this process knows of the chain."""
        step = self.chain.step(calls)
        if step is None:
            return False
        rows = _rows(calls, step.links)

        def write(cursor: sqlite3.Cursor) -> bool:
            if not step.taken_behind(cursor):
                return False
            for statement, values in _sqlite_inserts(rows):
                cursor.execute(statement, values)
            return True

        return await self._database.behind(write)

    async def calls(
        self, session: Session, principal: Principal, wanted: CallFilter, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[CallView], int]:
        """Newest first, with the number of all that match."""
        principal.require(READ)
        rows = await queries.page(session, principal, wanted, limit, offset)
        return [call_view(row) for row in rows], await queries.count(session, principal, wanted)

    async def summary(self, session: Session, principal: Principal, wanted: CallFilter) -> Usage:
        """All matching calls as one."""
        principal.require(READ)
        found = await queries.grouped(session, principal, wanted, None, 1)
        return Usage(**found[0].model_dump(exclude={"key"})) if found else Usage()

    async def grouped(
        self, session: Session, principal: Principal, wanted: CallFilter, by: GroupBy, *, limit: int = 100
    ) -> list[UsageGroup]:
        """Matching calls by group: the newest hours or days first, else the groups with the most calls."""
        principal.require(READ)
        return await queries.grouped(session, principal, wanted, by, limit)


def _rows(calls: Sequence[Call], links: Sequence[tuple[int, int, bytes]]) -> list[tuple[Any, ...]]:
    return [(*call, *link) for call, link in zip(calls, links, strict=True)]


async def _insert_postgresql(connection: AsyncConnection, rows: list[tuple[Any, ...]]) -> None:
    await connection.exec_driver_sql(_POSTGRESQL, rows)


async def _insert_sqlite(connection: AsyncConnection, rows: list[tuple[Any, ...]]) -> None:
    for statement, values in _sqlite_inserts(rows):
        await connection.exec_driver_sql(statement, values)


def _sqlite_inserts(rows: list[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    start = 0
    for size in _SQLITE_ROWS:
        while len(rows) - start >= size:
            yield _SQLITE[size], tuple(chain.from_iterable(rows[start : start + size]))
            start += size
