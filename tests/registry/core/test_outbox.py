"""The outbox: promised with a transaction, carried out at least once, tried again, dead in the end, and revived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from registry.core.db import Database
from registry.core.errors import Unavailable
from registry.core.events import EventBus
from registry.core.outbox import (
    KEEP_DONE,
    MARGIN_SECONDS,
    Job,
    JobRefused,
    OutboxJob,
    OutboxWorker,
    Retries,
    put,
    revive,
)
from tests.support.clock import SettableClock

RETRIES = Retries(most=3, first_seconds=10, last_seconds=15, within=5)


@dataclass
class Post:
    """Handles jobs as `answers` say: an error is raised, `None` is success, which also comes when they run out."""

    answers: list[BaseException | None] = field(default_factory=list)
    taken: list[Job] = field(default_factory=list)

    async def __call__(self, job: Job) -> None:
        self.taken.append(job)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer


@dataclass
class Office:
    database: Database
    clock: SettableClock
    post: Post
    worker: OutboxWorker

    async def put(self, **payload: Any) -> str:
        async with self.database.transaction() as session:
            return await put(session, "letter", payload, org_id=None, now=self.clock.now())

    async def work(self) -> int:
        begun = await self.worker.tick()
        await self.worker.idle()
        return begun

    async def row(self) -> OutboxJob:
        async with self.database.reading() as session:
            return (await session.scalars(select(OutboxJob))).one()


def another(office: Office) -> OutboxWorker:
    """The worker of another process."""
    worker = OutboxWorker(office.database, office.clock, EventBus())
    worker.handle("letter", office.post, RETRIES)
    return worker


@pytest.fixture
async def office(database: Database, events: EventBus) -> AsyncIterator[Office]:
    clock = SettableClock()
    post = Post()
    worker = OutboxWorker(database, clock, events)
    worker.handle("letter", post, RETRIES)
    yield Office(database, clock, post, worker)
    await worker.stop()


async def test_a_job_is_carried_out_once(office: Office) -> None:
    job_id = await office.put(to="ada")
    assert await office.work() == 1
    assert await office.work() == 0
    assert office.post.taken == [Job(job_id, None, "letter", {"to": "ada"}, 1)]
    row = await office.row()
    assert (row.status, row.last_error, row.finished_at) == ("done", None, office.clock.now())


async def test_what_is_rolled_back_was_never_promised(office: Office) -> None:
    with pytest.raises(RuntimeError, match="no"):
        async with office.database.transaction() as session:
            await put(session, "letter", {}, org_id=None, now=office.clock.now())
            raise RuntimeError("no")
    assert await office.work() == 0


async def test_failures_are_tried_again_ever_later_and_are_dead_in_the_end(office: Office) -> None:
    office.post.answers = [Unavailable("nobody is there"), Unavailable("nobody is there"), ValueError("bad")]
    await office.put()
    await office.work()
    assert (await office.row()).last_error == "nobody is there"
    assert await office.work() == 0
    office.clock.advance(10)
    assert await office.work() == 1
    office.clock.advance(7)
    assert await office.work() == 0
    office.clock.advance(8)
    assert await office.work() == 1
    row = await office.row()
    assert (row.status, row.attempts, row.last_error) == ("dead", 3, "ValueError: bad")
    office.clock.advance(10_000)
    assert await office.work() == 0


async def test_a_refused_job_is_dead_at_once_and_can_be_revived(office: Office) -> None:
    office.post.answers = [JobRefused("there is no such channel")]
    await office.put()
    await office.work()
    assert (await office.row()).status == "dead"
    async with office.database.transaction() as session:
        await revive(session, (await session.scalars(select(OutboxJob))).one(), office.clock.now())
    await office.work()
    assert ((await office.row()).status, [job.attempt for job in office.post.taken]) == ("done", [1, 1])


async def test_no_two_workers_take_one_job(office: Office) -> None:
    for number in range(40):
        await office.put(number=number)
    others = [another(office) for _ in range(3)]
    while sum(await asyncio.gather(*(worker.tick() for worker in (office.worker, *others)))):
        for worker in (office.worker, *others):
            await worker.idle()
    assert sorted(job.payload["number"] for job in office.post.taken) == list(range(40))


async def test_what_a_dead_process_held_is_taken_over(office: Office) -> None:
    await office.put()
    stuck = asyncio.Event()

    async def never(_job: Job) -> None:
        await stuck.wait()

    dying = OutboxWorker(office.database, office.clock, EventBus())
    dying.handle("letter", never, RETRIES)
    assert await dying.tick() == 1
    await dying.stop()
    assert await office.work() == 0
    office.clock.advance(RETRIES.within + MARGIN_SECONDS)
    assert await office.work() == 1
    assert [job.attempt for job in office.post.taken] == [2]


async def test_whoever_lost_a_job_does_not_say_how_it_ended(office: Office) -> None:
    await office.put()
    goes_on = asyncio.Event()

    async def late(_job: Job) -> None:
        await goes_on.wait()
        raise JobRefused("too late")

    slow = OutboxWorker(office.database, office.clock, EventBus())
    slow.handle("letter", late, Retries(within=3600))
    await slow.tick()
    office.clock.advance(3600 + MARGIN_SECONDS)
    await office.work()
    goes_on.set()
    await slow.idle()
    assert (await office.row()).status == "done"


async def test_a_job_may_take_only_so_long(office: Office) -> None:
    async def hang(_job: Job) -> None:
        await asyncio.Event().wait()

    office.worker.handle("letter", hang, Retries(within=0.01))
    await office.put()
    await office.work()
    assert (await office.row()).last_error == "It took more than 0.01 s."


async def test_other_topics_are_left_to_those_who_know_them(office: Office) -> None:
    async with office.database.transaction() as session:
        await put(session, "parcel", {}, org_id=None, now=office.clock.now())
    assert await office.work() == 0


async def test_a_running_worker_takes_what_its_process_puts_without_waiting(office: Office) -> None:
    taken = asyncio.Event()

    async def take(_job: Job) -> None:
        taken.set()

    office.worker.handle("letter", take)
    office.worker.start()
    # The clock stands still: only the news of the commit can wake it.
    await office.put()
    async with asyncio.timeout(30):
        await taken.wait()


async def test_what_is_done_is_forgotten_after_a_week(office: Office) -> None:
    await office.put()
    await office.work()
    office.clock.advance(KEEP_DONE.total_seconds() - 1)
    await office.worker.purge()
    assert (await office.row()).status == "done"
    office.clock.advance(1)
    await office.worker.purge()
    async with office.database.reading() as session:
        assert (await session.scalars(select(OutboxJob))).all() == []


@given(st.integers(1, 200), st.floats(0.1, 60), st.floats(60, 86_400))
def test_pauses_grow_and_are_bounded(attempts: int, first: float, last: float) -> None:
    retries = Retries(first_seconds=first, last_seconds=last)
    whole = min(last, first * 2.0 ** min(attempts - 1, 30))
    assert whole / 2 <= retries.pause(attempts) <= whole <= last
