"""One holder at a time, on both databases, and another one when it has gone."""

from __future__ import annotations

import asyncio

from registry.core.db import Database
from registry.core.leases import SECONDS, Lease
from tests.support.clock import SettableClock


async def test_of_many_that_ask_at_once_one_gets_it(database: Database) -> None:
    clock = SettableClock()
    held = await asyncio.gather(*(Lease(database, clock, "work").hold() for _ in range(8)))
    assert held.count(True) == 1


async def test_it_is_kept_as_long_as_it_is_renewed(database: Database) -> None:
    clock = SettableClock()
    holder, other = Lease(database, clock, "work"), Lease(database, clock, "work")
    assert await holder.hold()
    for _ in range(5):
        clock.advance(SECONDS * 0.7)
        assert await holder.hold()
        assert not await other.hold()


async def test_another_takes_over_from_one_that_has_gone(database: Database) -> None:
    clock = SettableClock()
    gone, other = Lease(database, clock, "work"), Lease(database, clock, "work")
    assert await gone.hold()
    clock.advance(SECONDS)
    assert await other.hold()
    assert not await gone.hold(), "it came back late"


async def test_what_is_released_is_free_at_once(database: Database) -> None:
    clock = SettableClock()
    first, second = Lease(database, clock, "work"), Lease(database, clock, "work")
    assert await first.hold()
    await second.release()
    assert not await second.hold(), "only the holder can release it"
    await first.release()
    assert await second.hold()


async def test_each_work_has_its_own(database: Database) -> None:
    clock = SettableClock()
    assert await Lease(database, clock, "work").hold()
    assert await Lease(database, clock, "other").hold()
