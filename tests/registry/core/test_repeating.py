"""Work in the background goes on whatever fails, says so once, and leaves nothing behind at its end."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from registry.core.db import Database
from registry.core.leases import Lease
from registry.core.repeating import Repeating
from tests.support.clock import SettableClock


async def _let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_fails_is_tried_again_and_told_once_in_a_row() -> None:
    clock, fails, done = SettableClock(), [True, True, False, True], []

    async def work() -> None:
        done.append(clock.monotonic())
        if fails[len(done) - 1]:
            raise OSError("away")

    repeating = Repeating(clock, 2.0, work, "it failed")
    repeating.start()
    await _let_run()
    assert done == []
    with capture_logs() as logs:
        for _ in fails:
            clock.advance(2.0)
            await _let_run()
    assert done == [2.0, 4.0, 6.0, 8.0]
    assert [line["event"] for line in logs] == ["it failed"] * 2
    await repeating.stop()
    clock.advance(2.0)
    await _let_run()
    assert len(done) == len(fails)


async def test_at_its_end_another_process_takes_over_at_once(database: Database) -> None:
    clock = SettableClock()
    mine, theirs = Lease(database, clock, "work"), Lease(database, clock, "work")
    repeating = Repeating(clock, 1.0, mine.hold, "it failed", mine)
    await repeating.stop()
    assert await mine.hold()
    repeating.start()
    begun = asyncio.create_task(asyncio.Event().wait())
    assert not await theirs.hold()
    await repeating.stop(lambda: [begun])
    assert begun.cancelled()
    assert await theirs.hold()
