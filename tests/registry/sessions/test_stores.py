"""One contract for every store of sessions: the database, on SQLite and PostgreSQL, Redis, and the one of the tests."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.mcp.session_store import SessionStore
from registry.core.clock import SystemClock
from registry.core.db import Database
from registry.core.events import EventBus
from registry.sessions.models import StoredSession
from registry.sessions.patch import Patch
from registry.sessions.redis import RedisSessions
from registry.sessions.service import PURGE_SECONDS, StoredSessions
from tests.registry.sessions.memory import MemorySessions, Shelf
from tests.support.clock import SettableClock
from tests.support.components.postgres import Postgres

DAY = 24 * 3600.0
Process = Callable[[], SessionStore]


@pytest.fixture(params=["memory", "redis", "sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    """Makes the store of one more process."""
    clock = SystemClock()
    if request.param == "memory":
        shelf = Shelf(clock)
        yield lambda: MemorySessions(shelf)
    elif request.param == "redis":
        url = request.getfixturevalue("redis_url")
        yield lambda: RedisSessions(url, clock)
    elif request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "gatehouse.db")
        yield lambda: StoredSessions(Database(f"sqlite+aiosqlite:///{path}", EventBus()), clock)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        name = server.create_database(template=request.getfixturevalue("postgres_template"))
        yield lambda: StoredSessions(Database(server.url(name), EventBus()), clock)
        server.drop_database(name)


@pytest.fixture
async def process(make: Process) -> AsyncIterator[Process]:
    made: list[SessionStore] = []

    def one_more() -> SessionStore:
        made.append(make())
        return made[-1]

    yield one_more
    for store in made:
        await store.close()
        if isinstance(store, StoredSessions):
            await store._database.close()


async def test_nothing_is_known_of_a_session_that_was_never_saved(process: Process) -> None:
    assert await process().load("a") is None


async def test_what_one_saves_another_loads(process: Process) -> None:
    stored = await process().save([Patch("a", DAY, put={"level": "info"}), Patch("b", DAY, put={"ended": "yes"})])
    assert stored == {"a": {"level": "info"}, "b": {"ended": "yes"}}
    other = process()
    assert await other.load("a") == {"level": "info"}
    assert await other.load("b") == {"ended": "yes"}


async def test_patches_of_two_go_on_top_of_each_other(process: Process) -> None:
    first, second = process(), process()
    await first.save([Patch("a", DAY, add={"at:1": "x"}, put={"level": "info", "watch:1": "u"})])
    merged = await second.save([Patch("a", DAY, add={"at:2": "y"}, put={"level": "debug"}, drop=("watch:1",))])
    assert merged["a"] == await first.load("a") == {"at:1": "x", "at:2": "y", "level": "debug"}


async def test_the_first_to_add_a_value_wins(process: Process) -> None:
    first, second = process(), process()
    await first.save([Patch("a", DAY, add={"at:1": "x"})])
    assert (await second.save([Patch("a", DAY, add={"at:1": "y"})]))["a"] == {"at:1": "x"}
    assert (await second.save([Patch("a", DAY, put={"at:1": "z"})]))["a"] == {"at:1": "z"}


async def test_many_that_save_at_once_lose_nothing(process: Process) -> None:
    stores = [process() for _ in range(4)]
    await asyncio.gather(
        *(
            store.save([Patch(key, DAY, add={"at:1": str(number)}, put={f"watch:{number}": "u"}) for key in "abc"])
            for number, store in enumerate(stores)
        )
    )
    for key in "abc":
        record = await stores[0].load(key)
        assert record is not None
        assert {f"watch:{number}" for number in range(4)} < record.keys()


async def test_a_record_may_be_renewed_without_a_word(process: Process) -> None:
    store = process()
    assert await store.save([Patch("a", DAY)]) == {"a": {}}
    assert await store.load("a") == {}


async def test_others_hear_of_a_change_and_the_one_who_made_it_does_not(process: Process) -> None:
    first, second = process(), process()
    await first.save([Patch("a", DAY, put={"level": "info"})])
    assert await first.changed(5) == {}
    assert await second.changed(5) == {"a": {"level": "info"}}
    await second.save([Patch("a", DAY, put={"level": "debug"})])
    assert await first.changed(5) == {"a": {"level": "debug"}}
    assert await second.changed(5) == {}


async def test_what_has_expired_is_gone(process: Process) -> None:
    store = process()
    await store.save([Patch("a", 0.01, put={"level": "info"}), Patch("b", DAY)])
    while await store.load("a") is not None:
        await asyncio.sleep(0.01)
    assert "a" not in await process().changed(5)
    assert (await store.save([Patch("a", DAY, add={"at:1": "x"})]))["a"] == {"at:1": "x"}


async def test_what_has_expired_leaves_the_database(database: Database) -> None:
    clock = SettableClock()
    store = StoredSessions(database, clock)
    await store.save([Patch(str(number), 60) for number in range(500)])
    clock.advance(PURGE_SECONDS)
    await store.save([Patch("a", DAY)])
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(StoredSession)) == 1
