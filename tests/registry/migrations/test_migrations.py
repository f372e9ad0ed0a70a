"""The schema goes up and down on both databases, and is what the models say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from registry.core.db import Database
from registry.core.events import EventBus
from registry.migrations.runner import BASE, VERSIONS, SchemaTooNew, migrate, newest_version
from registry.migrations.tables import metadata


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_up_gives_the_schema_of_the_models_and_down_leaves_nothing(empty_database_url: str) -> None:
    database = Database(empty_database_url, EventBus())
    try:
        await migrate(database)
        async with database.engine.connect() as connection:
            assert await connection.run_sync(_tables) == set(metadata.tables)
            assert await connection.run_sync(_differences) == []
        await migrate(database, BASE)
        async with database.engine.connect() as connection:
            assert await connection.run_sync(_tables) == set()
        await migrate(database)
        async with database.engine.connect() as connection:
            assert await connection.run_sync(_tables) == set(metadata.tables)
    finally:
        await database.close()


async def test_each_step_can_be_taken_back(empty_database_url: str) -> None:
    database = Database(empty_database_url, EventBus())
    try:
        steps = sorted(file.name.partition("_")[0] for file in VERSIONS.glob("[0-9]*_*.py"))
        for before, version in zip([BASE, *steps], steps, strict=False):
            await migrate(database, version)
            await migrate(database, before)
            await migrate(database, version)
    finally:
        await database.close()


async def test_processes_that_start_at_once_do_not_collide(empty_database_url: str) -> None:
    starters = [Database(empty_database_url, EventBus()) for _ in range(5)]
    try:
        await asyncio.gather(*(migrate(starter) for starter in starters))
        async with starters[0].engine.connect() as connection:
            versions = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars().all()
        assert versions == [newest_version()]
    finally:
        for starter in starters:
            await starter.close()


async def test_a_database_of_a_newer_gateway_is_refused(empty_database_url: str) -> None:
    database = Database(empty_database_url, EventBus())
    try:
        await migrate(database)
        async with database.engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaTooNew):
            await migrate(database)
    finally:
        await database.close()


async def test_foreign_keys_hold_again_after_a_migration(empty_database_url: str) -> None:
    database = Database(empty_database_url, EventBus())
    try:
        await migrate(database)
        if database.url.get_backend_name() == "sqlite":
            async with database.engine.connect() as connection:
                assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    finally:
        await database.close()


def test_a_current_database_is_left_alone_without_importing_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from registry.core.db import Database\n"
        "from registry.core.events import EventBus\n"
        "from registry.migrations.runner import migrate\n"
        "async def main():\n"
        f"    database = Database('sqlite+aiosqlite:///{tmp_path / 'a.db'}', EventBus())\n"
        "    await migrate(database)\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]
