"""Public servers: an address without an organisation in it leads to one server only."""

from __future__ import annotations

import pytest

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.security import Sealer
from registry.identity.principal import Principal
from registry.servers.connection import Offer
from registry.servers.errors import PublicSlugTaken
from registry.servers.models import Server
from registry.servers.service import Changes, Registration, ServerService
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
