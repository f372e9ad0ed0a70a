"""What one process changes of an organisation's offers, the others see at their next poll, whatever the change was."""

from __future__ import annotations

import pytest

from registry.audit.service import AuditService
from registry.core.db import Database, emit
from registry.core.events import EventBus
from registry.servers.changes import CatalogChanges
from registry.servers.discovery import discoverer
from registry.servers.events import CatalogChanged, OffersChanged
from registry.servers.prices import PriceService
from registry.servers.service import Changes
from registry.sets.members import Member
from registry.sets.service import Draft, SetService
from tests.registry.servers.house import UP, House, furnish
from tests.support.clock import SettableClock


class Other:
    """Another process on the same database."""

    def __init__(self, database: Database) -> None:
        self.database = Database(database.url.render_as_string(hide_password=False), EventBus())
        self.heard: list[str] = []
        self.changes = CatalogChanges(self.database, SettableClock(), self.heard.append)

    async def hears(self) -> list[str]:
        self.heard.clear()
        await self.changes.poll()
        return list(self.heard)


@pytest.fixture
async def house(database: Database) -> House:
    return await furnish(database)


@pytest.fixture
async def other(house: House):
    made = Other(house.database)
    await made.changes.start()
    yield made
    await made.changes.stop()
    await made.database.close()


async def test_every_kind_of_change_is_seen_once(house: House, other: Other) -> None:
    principal, org_id = house.admin.principal, house.admin.principal.org_id
    audit = AuditService(house.clock)
    sets, prices = SetService(house.clock, audit), PriceService(audit)
    assert await other.hears() == []
    house.prober.answer = UP
    server = await house.register("up")
    assert await other.hears() == [org_id]
    assert await other.hears() == []

    async def seen(what: str) -> None:
        assert await other.hears() == [org_id], what

    async with house.database.transaction() as session:
        await prices.set_price(session, principal, server.id, "say", 0.5)
    await seen("a price")
    async with house.database.transaction() as session:
        await sets.create(session, principal, Draft("chosen", (Member(server="up"),)))
    await seen("a set")
    async with house.database.transaction() as session:
        await house.servers.update(session, principal, server.id, Changes(status="inactive"))
    await seen("a change")
    async with house.database.transaction() as session:
        await sets.remove(session, principal, "chosen")
    await seen("a set that has gone")
    async with house.database.transaction() as session:
        await house.servers.remove(session, principal, server.id)
    await seen("a server that has gone")


async def test_a_look_that_finds_nothing_new_is_no_change(house: House, other: Other) -> None:
    house.prober.answer = UP
    server = await house.register("up")
    assert await other.hears() != []
    await house.discovery.discover(discoverer(house.admin.principal.org_id), server.id)
    assert await other.hears() == []


async def test_what_is_rolled_back_is_no_change(house: House, other: Other) -> None:
    with pytest.raises(ZeroDivisionError):
        async with house.database.transaction() as session:
            emit(session, CatalogChanged(house.admin.principal.org_id, "s"))
            raise ZeroDivisionError
    assert await other.hears() == []


async def test_the_process_itself_hears_it_at_once(house: House, events: EventBus) -> None:
    heard: list[OffersChanged] = []
    events.subscribe(OffersChanged, heard.append)
    server = await house.register("dead")
    assert heard == [CatalogChanged(house.admin.principal.org_id, server.id)]
