"""The audit log is written with what it tells of, and only ever grows."""

from __future__ import annotations

import inspect

import pytest
import structlog
from sqlalchemy import func, select

from registry.audit import service as module
from registry.audit.models import AuditEntry
from registry.audit.service import AuditIsAppendOnly, AuditService
from registry.core.db import Database
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def person(database: Database, clock: SettableClock) -> Person:
    return await add_user(database, clock, await add_organization(database, clock, "acme"), "a@acme.test")


async def test_an_entry_says_who_did_what_when(database: Database, clock: SettableClock, person: Person) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        async with database.transaction() as session:
            await AuditService(clock).record(
                session, person.principal, "servers.create", target=("server", "s-1"), detail={"name": "git"}
            )
    async with database.reading() as session:
        entry = (await session.scalars(select(AuditEntry))).one()
        assert (entry.org_id, entry.user_id, entry.key_id) == (person.user.org_id, person.user.id, None)
        assert (entry.subject, entry.action, entry.outcome) == (f"user:{person.user.id}", "servers.create", "done")
        assert (entry.target_type, entry.target_id, entry.detail) == ("server", "s-1", {"name": "git"})
        assert (entry.at, entry.request_id) == (clock.now(), "req-1")


async def test_an_entry_goes_with_its_transaction(database: Database, clock: SettableClock, person: Person) -> None:
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await AuditService(clock).record(session, person.principal, "servers.create")
            raise RuntimeError
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(AuditEntry)) == 0


async def test_entries_are_neither_changed_nor_removed(
    database: Database, clock: SettableClock, person: Person
) -> None:
    async with database.transaction() as session:
        await AuditService(clock).record(session, person.principal, "servers.create")
    for change in ("update", "delete"):
        with pytest.raises(AuditIsAppendOnly):
            async with database.transaction() as session:
                entry = (await session.scalars(select(AuditEntry))).one()
                if change == "update":
                    entry.action = "nothing"
                else:
                    await session.delete(entry)
    async with database.reading() as session:
        assert (await session.scalars(select(AuditEntry))).one().action == "servers.create"


def test_the_service_has_no_way_to_change_or_remove() -> None:
    public = {name for name, _ in inspect.getmembers(AuditService, inspect.isfunction) if not name.startswith("_")}
    assert public == {"record"}
    source = inspect.getsource(module)
    assert "delete(" not in source
    assert "update(" not in source
