"""Taking away what keeps records from being changed, as the owner of a database can."""

from __future__ import annotations

import sqlite3

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

TABLES = ("audit_entries", "calls", "audit_chains")
_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%append_only%'"


async def unguard(connection: AsyncConnection) -> None:
    """Let the records of one database be changed from here on."""
    if connection.dialect.name == "postgresql":
        for table in TABLES:
            await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        return
    for name in list((await connection.execute(text(_TRIGGERS))).scalars()):
        await connection.execute(text(f"DROP TRIGGER {name}"))


def unguard_file(database: sqlite3.Connection) -> None:
    """The same for a SQLite database."""
    for name in [row[0] for row in database.execute(_TRIGGERS)]:
        database.execute(f"DROP TRIGGER {name}")
