"""Public servers: an address without an organisation in it leads to one server only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from registry.audit.service import AuditService
from registry.core.db import ChangedMeanwhile, Database, Session
from registry.core.errors import Conflict
from registry.core.security import Sealer
from registry.identity.principal import OPERATE, Principal
from registry.servers.connection import Offer
from registry.servers.errors import PublicNeedsOperator, PublicSlugTaken
from registry.servers.models import Server
from registry.servers.service import Changes, Registration, ServerService
from registry.sets.members import Member
from registry.sets.service import Draft, SetService
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, add_organization, add_user


@pytest.fixture
def servers() -> ServerService:
    clock = SettableClock()
    return ServerService(clock, Sealer(MASTER, "servers"), AuditService(clock))


async def _operator(database: Database, slug: str) -> Principal:
    clock = SettableClock()
    org_id = await add_organization(database, clock, slug)
    person = await add_user(database, clock, org_id, f"root@{slug}.test", role="admin", is_operator=True)
    return person.principal


async def _register(database: Database, servers: ServerService, who: Principal, name: str, *, public: bool) -> Server:
    registration = Registration(name=name, base_url="https://mcp.test/mcp", public=public)
    connection = servers.admit(who, registration)
    async with database.transaction() as session:
        return await servers.register(session, who, registration, connection, Offer(reachable=False))


async def _update(database: Database, servers: ServerService, who: Principal, server: Server, changes: Changes) -> None:
    async with database.transaction() as session:
        await servers.update(session, who, server.id, changes)


async def test_one_public_server_for_a_slug_over_all_organisations(database: Database, servers: ServerService) -> None:
    first, second = await _operator(database, "first"), await _operator(database, "second")
    opened = await _register(database, servers, first, "Weather", public=True)
    with pytest.raises(PublicSlugTaken, match="/servers/weather/mcp"):
        await _register(database, servers, second, "Weather", public=True)
    private = await _register(database, servers, second, "Weather", public=False)
    assert private.slug == opened.slug
    with pytest.raises(PublicSlugTaken):
        await _update(database, servers, second, private, Changes(public=True))

    await _update(database, servers, first, opened, Changes(public=True, description="still open"))
    await _update(database, servers, first, opened, Changes(public=False))
    await _update(database, servers, second, private, Changes(public=True))
    with pytest.raises(PublicSlugTaken):
        await _update(database, servers, first, opened, Changes(public=True))
    async with database.transaction() as session:
        await servers.remove(session, second, private.id)
    await _update(database, servers, first, opened, Changes(public=True))


async def test_only_operators_lead_a_public_address_elsewhere(database: Database, servers: ServerService) -> None:
    operator = await _operator(database, "first")
    admin = replace(operator, permissions=operator.permissions - {OPERATE})
    opened = await _register(database, servers, operator, "Weather", public=True)
    for changes in (Changes(base_url="https://other.test/mcp"), Changes(headers={"authorization": "x"})):
        with pytest.raises(PublicNeedsOperator):
            await _update(database, servers, admin, opened, changes)
        await _update(database, servers, operator, opened, changes)
    await _update(database, servers, admin, opened, Changes(description="mine to say"))
    await _update(database, servers, admin, opened, Changes(public=False, base_url="https://third.test/mcp"))
    await _update(database, servers, admin, opened, Changes(headers={}))
    with pytest.raises(PublicNeedsOperator):
        await _update(database, servers, admin, opened, Changes(public=True))


async def _make_set(session: Session, who: Principal) -> None:
    sets = SetService(SettableClock(), AuditService(SettableClock()))
    sets.offer_own("own", [("read", "{}", "x")])
    await sets.create(session, who, Draft("weather", (Member(server="own"),), public=True))


async def _make_server(session: Session, who: Principal) -> None:
    clock = SettableClock()
    servers = ServerService(clock, Sealer(MASTER, "servers"), AuditService(clock))
    registration = Registration(name="Weather", base_url="https://mcp.test/mcp", public=True)
    connection = servers.admit(who, registration)
    await servers.register(session, who, registration, connection, Offer(reachable=False))


@pytest.mark.parametrize("make", [_make_set, _make_server])
async def test_of_two_who_open_one_address_at_once_one_is_told_to_look_again(
    database: Database, make: Callable[[Session, Principal], Awaitable[Any]]
) -> None:
    first, second = await _operator(database, "first"), await _operator(database, "second")

    async def other() -> None:
        async with database.transaction() as session:
            await make(session, second)

    async with asyncio.timeout(60):
        async with database.transaction() as session:
            await make(session, first)
            task = asyncio.create_task(other())
            # It has looked and found nothing, and waits for the index; SQLite lets it begin only afterwards.
            while database.url.get_backend_name() == "postgresql" and not await _somebody_waits(database):
                await asyncio.sleep(0.01)
        with pytest.raises(Conflict) as refused:
            await task
    assert isinstance(refused.value, ChangedMeanwhile) == (database.url.get_backend_name() == "postgresql")
    assert refused.value.status == 409


async def _somebody_waits(database: Database) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with database.engine.connect() as connection:
        return (await connection.execute(text(query))).scalar_one() > 0
