"""The fixture `database`: a fresh migrated database, once on SQLite and once on PostgreSQL.

Both are copies of a template that is migrated once a run. `postgres_server_url` starts a server of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from registry.core.db import Database
from registry.core.events import EventBus
from registry.migrations.runner import migrate

TEMPLATE = "gatehouse_template"
_BINARIES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """`postgresql+asyncpg://…` of the maintenance database of a server that lives as long as the test run."""
    home = Path(tempfile.mkdtemp(prefix="gatehouse-pg-"))
    as_postgres = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"} if os.getuid() == 0 else {}
    if as_postgres:
        shutil.chown(home, "postgres", "postgres")
    data = home / "data"
    subprocess.run(
        [
            _BINARIES / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C.UTF-8",
        ],
        check=True,
        capture_output=True,
        **as_postgres,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["fsync=off", "full_page_writes=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={home}"]
    server = subprocess.Popen(
        [_BINARIES / "postgres", "-D", data, "-p", str(port), *(part for o in options for part in ("-c", o))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_postgres,
    )
    try:
        ready = [_BINARIES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        if not any(subprocess.run(ready, check=False).returncode == 0 or not _pause(server) for _ in range(300)):
            raise RuntimeError("PostgreSQL did not become ready")
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(home)


def _pause(server: subprocess.Popen[bytes]) -> bool:
    """Give the server 50 ms; false once it has died."""
    try:
        server.wait(0.05)
    except subprocess.TimeoutExpired:
        return True
    raise RuntimeError(f"PostgreSQL exited with {server.returncode}")


@pytest.fixture(scope="session")
def postgres_template(postgres_server_url: str) -> str:
    """The server's URL, once it holds a migrated template."""
    asyncio.run(_make_postgres_template(postgres_server_url))
    return postgres_server_url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "gatehouse.db"
    asyncio.run(_migrated(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table, on each of the two."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'gatehouse.db'}"
        return
    url: str = request.getfixturevalue("postgres_server_url")
    name = asyncio.run(_create(url, "template0"))
    yield _renamed(url, name)
    asyncio.run(_drop(url, name))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, on each of the two."""
    if request.param == "sqlite":
        path = tmp_path / "gatehouse.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    url: str = request.getfixturevalue("postgres_template")
    name = asyncio.run(_create(url, TEMPLATE))
    yield _renamed(url, name)
    asyncio.run(_drop(url, name))


@pytest.fixture
def events() -> EventBus:
    return EventBus()


@pytest.fixture
async def database(database_url: str, events: EventBus) -> AsyncIterator[Database]:
    """`Database` on a migrated database; its events go to the fixture `events`."""
    made = Database(database_url, events)
    yield made
    await made.close()


async def _migrated(url: str) -> None:
    database = Database(url, EventBus())
    await migrate(database)
    await database.close()


async def _make_postgres_template(url: str) -> None:
    await _execute(url, f"CREATE DATABASE {TEMPLATE}")
    await _migrated(_renamed(url, TEMPLATE))


async def _create(url: str, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    await _execute(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


async def _drop(url: str, name: str) -> None:
    await _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _renamed(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
