"""Brings a database to the newest schema at start.

Alembic costs 0.4 s to import, so it is only asked when the stored version differs from the newest file in `versions/`,
whose names begin with their revision: `NNNN_name.py`. Processes that start at once wait for the first one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.core.db import Database
from registry.core.errors import GatehouseError

VERSIONS = Path(__file__).parent / "versions"
HEAD = "head"
BASE = "base"

# Any number will do, as long as nothing else uses it.
_LOCK = 0x6761_7465_0002


class SchemaTooNew(GatehouseError):
    code = "SCHEMA_TOO_NEW"
    title = "Schema too new"


class SchemaBroken(GatehouseError):
    code = "SCHEMA_BROKEN"
    title = "Schema broken"


def newest_version() -> str:
    return max(file.name.partition("_")[0] for file in VERSIONS.glob("[0-9]*_*.py"))


async def migrate(database: Database, target: str = HEAD) -> None:
    """Bring the schema to `target`: `head`, `base` or a revision. All of it in one transaction.

    Raises:
        SchemaTooNew: the database was made by a newer version of the gateway.
    """
    wanted = newest_version() if target == HEAD else target
    async with database.engine.connect() as connection:
        if await _stored_version(connection) == wanted:
            return
    sqlite = database.url.get_backend_name() == "sqlite"
    async with database.engine.connect() as connection:
        if sqlite:
            # Rebuilding a table drops the old one, which must not take along the rows that refer to it.
            await _set_foreign_keys(connection, "OFF")
        try:
            # On SQLite the transaction is exclusive from its begin.
            async with connection.begin():
                if not sqlite:
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
                await _migrate_locked(connection, wanted, sqlite)
        finally:
            if sqlite:
                await _set_foreign_keys(connection, "ON")


async def _migrate_locked(connection: AsyncConnection, wanted: str, sqlite: bool) -> None:
    stored = await _stored_version(connection)
    if stored == wanted:
        return
    if stored is not None and stored > newest_version():
        raise SchemaTooNew(
            f"The database has schema {stored}, this gateway knows {newest_version()}: start a newer version of it."
        )
    await connection.run_sync(_run, stored, wanted)
    if sqlite and (broken := (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()):
        raise SchemaBroken(f"The migration left {len(broken)} dangling references; nothing was changed.")


async def _stored_version(connection: AsyncConnection) -> str | None:
    try:
        async with connection.begin_nested() if connection.in_transaction() else connection.begin():
            return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    except DBAPIError:
        # The table is made by the first migration.
        return None


async def _set_foreign_keys(connection: AsyncConnection, state: str) -> None:
    # Has no effect within a transaction, so it goes to the driver itself, which begins none.
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute(f"PRAGMA foreign_keys={state}")


def _run(connection: Connection, stored: str | None, wanted: str) -> None:
    # Heavy vendor, imported only when there is something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    down = wanted == BASE or (stored is not None and wanted < stored)
    (command.downgrade if down else command.upgrade)(config, wanted)
