"""The database, as the one place where transactions begin and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.core.db import Database
from registry.core.events import EventBus

ROUNDS = 120
"""Without a rollback at the end of a cancelled task's connection, this seed locks the database in round 29."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db", EventBus())
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE counted (number INTEGER)"))
    yield database
    await database.close()


async def test_cancelled_transactions_leave_no_lock(database: Database) -> None:
    chance = random.Random(0)

    async def write() -> None:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO counted VALUES (1)"))
            await session.execute(text("SELECT count(*) FROM counted"))

    async def read() -> None:
        async with database.reading() as session:
            await session.execute(text("SELECT count(*) FROM counted"))

    for _ in range(ROUNDS):
        kinds = [write if chance.random() < 0.7 else read for _ in range(chance.randint(1, 4))]
        tasks = [asyncio.create_task(kind()) for kind in kinds]
        # Somewhere within a transaction, wherever that is.
        await asyncio.sleep(chance.random() * 0.012)
        for task in tasks:
            task.cancel()
        cancelled = await asyncio.gather(*tasks, return_exceptions=True)
        # The tracebacks live on, and with them whatever the tasks had in hand.
        await write()
        del cancelled


async def test_who_waits_to_write_is_served_in_order(database: Database) -> None:
    served: list[int] = []

    async def write(number: int) -> None:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO counted VALUES (1)"))
            served.append(number)

    async with database.transaction() as session:
        await session.execute(text("INSERT INTO counted VALUES (1)"))
        # More than there are connections; each is in line before the next one starts.
        writers = [asyncio.create_task(write(number)) for number in range(30)]
        await asyncio.sleep(0)
        # Who only reads need not wait for any of them.
        async with database.reading() as reading:
            assert await reading.scalar(text("SELECT count(*) FROM counted")) == 0
        assert served == []
    await asyncio.gather(*writers)
    assert served == list(range(30))


async def test_who_fails_or_gives_up_lets_the_next_one_write(database: Database) -> None:
    async def write(statement: str = "INSERT INTO counted VALUES (1)") -> None:
        async with database.transaction() as session:
            await session.execute(text(statement))

    async with database.transaction() as session:
        await session.execute(text("INSERT INTO counted VALUES (1)"))
        fails = asyncio.create_task(write("INSERT INTO nothing VALUES (1)"))
        leaves = asyncio.create_task(write())
        stays = asyncio.create_task(write())
        await asyncio.sleep(0)
        leaves.cancel()
    results = await asyncio.gather(fails, leaves, stays, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["DatabaseUnavailable", "CancelledError", "NoneType"]
    await write()
