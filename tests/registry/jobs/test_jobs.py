"""Jobs are seen by their organisation, and dead ones are replayed by who may."""

from __future__ import annotations

import pytest

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.core.events import EventBus
from registry.core.outbox import Job, JobRefused, OutboxWorker, put
from registry.jobs.service import JobNotDead, JobNotFound, JobService
from tests.support.clock import SettableClock
from tests.support.identity import add_organization, add_user


async def test_jobs_are_listed_and_replayed(database: Database, events: EventBus) -> None:
    clock = SettableClock()
    org_id = await add_organization(database, clock, "acme")
    admin = (await add_user(database, clock, org_id, "ada@acme.test", role="admin")).principal
    member = (await add_user(database, clock, org_id, "max@acme.test")).principal
    other = await add_organization(database, clock, "other")
    stranger = (await add_user(database, clock, other, "eve@other.test", role="admin")).principal
    operator = (await add_user(database, clock, other, "op@other.test", role="admin", is_operator=True)).principal
    jobs = JobService(clock, AuditService(clock))

    async def refuse(_job: Job) -> None:
        raise JobRefused("no such place")

    worker = OutboxWorker(database, clock, events)
    worker.handle("letter", refuse)
    async with database.transaction() as session:
        job_id = await put(session, "letter", {"to": "ada"}, org_id=org_id, now=clock.now())
    with pytest.raises(JobNotDead):
        async with database.transaction() as session:
            await jobs.replay(session, admin, job_id)
    await worker.tick()
    await worker.idle()
    async with database.transaction() as session:
        found = await jobs.list(session, admin, status="dead", topic="letter")
        assert [(job.id, job.last_error) for job in found.jobs] == [(job_id, "no such place")]
        assert (await jobs.list(session, admin, status="waiting")).total == 0
        assert (await jobs.list(session, stranger)).total == 0
        assert (await jobs.list(session, operator)).total == 1
        with pytest.raises(JobNotFound):
            await jobs.replay(session, stranger, job_id)
        with pytest.raises(Forbidden):
            await jobs.list(session, member)
        replayed = await jobs.replay(session, admin, job_id)
        assert (replayed.status, replayed.attempts) == ("waiting", 0)
    assert await worker.tick() == 1
    await worker.stop()
