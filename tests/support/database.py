"""Fresh migrated databases: the fixture `database`, on SQLite and on PostgreSQL, and `lay_schema` for gateways.

All are copies of a template that is migrated once a run.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from registry.core.db import Database
from registry.core.events import EventBus
from registry.migrations.runner import migrate
from tests.support.components.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The name of a migrated database on the server."""
    name = postgres.create_database()
    asyncio.run(_migrated(postgres.url(name)))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "gatehouse.db"
    asyncio.run(_migrated(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table, on each of the two."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'gatehouse.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, on each of the two."""
    if request.param == "sqlite":
        path = tmp_path / "gatehouse.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create_database(template=request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def events() -> EventBus:
    return EventBus()


@pytest.fixture
async def database(database_url: str, events: EventBus) -> AsyncIterator[Database]:
    """`Database` on a migrated database; its events go to the fixture `events`."""
    made = Database(database_url, events)
    yield made
    await made.close()


_schema: bytes | None = None


async def lay_schema(data_dir: Path) -> None:
    """Put a migrated database, empty otherwise, into a gateway's new data dir: migrating is slow."""
    global _schema
    path = data_dir / "gatehouse.db"
    if path.exists():
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    if _schema is None:
        await _migrated(f"sqlite+aiosqlite:///{path}")
        _schema = path.read_bytes()
    else:
        path.write_bytes(_schema)


async def _migrated(url: str) -> None:
    database = Database(url, EventBus())
    await migrate(database)
    await database.close()
