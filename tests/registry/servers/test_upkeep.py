"""Servers are looked at again by themselves: soon where they were down, later where they were up, by one process."""

from __future__ import annotations

import pytest

from registry.core.db import Database
from registry.core.leases import SECONDS
from registry.servers.service import Changes
from registry.servers.upkeep import AT_ONCE, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Upkeep
from tests.registry.servers.house import UP, House, furnish

TTL = 300.0


@pytest.fixture
async def house(database: Database) -> House:
    return await furnish(database)


def upkeep(house: House) -> Upkeep:
    return Upkeep(house.database, house.discovery, house.clock, TTL)


async def ticked(house: House, work: Upkeep, seconds: float) -> list[str]:
    """Who was looked at, `seconds` later."""
    house.clock.advance(seconds)
    before = len(house.prober.looks)
    await work.tick()
    await work.idle()
    return house.prober.looks[before:]


async def test_a_server_that_was_down_appears_when_it_comes_up(house: House) -> None:
    server = await house.register("late")
    work = upkeep(house)
    assert await house.offered(server) == []
    house.prober.answer = UP
    assert await ticked(house, work, 1) == []
    assert await ticked(house, work, FIRST_RETRY_SECONDS) == ["late"]
    assert await house.offered(server) == ["say"]


async def test_a_server_that_stays_down_is_tried_ever_less_often(house: House) -> None:
    await house.register("dead")
    work = upkeep(house)
    await work.tick()
    pauses = [0]
    for _ in range(int(4 * LAST_RETRY_SECONDS)):
        if await ticked(house, work, 1):
            pauses.append(0)
        pauses[-1] += 1
    first, second, *_, last, _unfinished = pauses
    assert FIRST_RETRY_SECONDS * 0.8 - 1 <= first <= FIRST_RETRY_SECONDS + 1
    assert first < second < last <= LAST_RETRY_SECONDS + 1
    assert last >= LAST_RETRY_SECONDS * 0.8 - 1


async def test_a_server_that_is_up_is_looked_at_when_its_offer_may_be_outdated(house: House) -> None:
    house.prober.answer = UP
    await house.register("up")
    work = upkeep(house)
    assert await ticked(house, work, TTL * 0.7) == []
    assert await ticked(house, work, TTL * 0.3) == ["up"]
    assert await ticked(house, work, 1) == []


async def test_no_more_than_some_are_looked_at_at_once(house: House) -> None:
    for number in range(AT_ONCE + 3):
        await house.register(f"s{number}")
    work = upkeep(house)
    house.prober.gate.clear()
    house.prober.looks.clear()
    house.prober.most = 0
    house.clock.advance(FIRST_RETRY_SECONDS)
    await work.tick()
    while house.prober.under_way < AT_ONCE:
        await work.tick()
    await work.tick()
    house.prober.gate.set()
    await work.idle()
    assert house.prober.most == AT_ONCE
    await work.tick()
    await work.idle()
    assert len(set(house.prober.looks)) == AT_ONCE + 3


async def test_one_process_looks_and_another_takes_over(house: House) -> None:
    await house.register("dead")
    first, second = upkeep(house), upkeep(house)
    assert await ticked(house, first, FIRST_RETRY_SECONDS) == ["dead"]
    assert await ticked(house, second, SECONDS / 2) == []
    assert await ticked(house, second, SECONDS / 2) == ["dead"]
    assert await ticked(house, first, FIRST_RETRY_SECONDS) == []


async def test_servers_that_are_switched_off_are_left_alone(house: House) -> None:
    server = await house.register("off")
    async with house.database.transaction() as session:
        await house.servers.update(session, house.admin.principal, server.id, Changes(status="inactive"))
    assert await ticked(house, upkeep(house), LAST_RETRY_SECONDS) == []


async def test_what_was_seen_at_an_old_address_is_not_written_down(house: House) -> None:
    server = await house.register("moved")
    house.prober.gate.clear()
    house.prober.answer = UP
    work = upkeep(house)
    house.clock.advance(FIRST_RETRY_SECONDS)
    await work.tick()
    while not house.prober.under_way:
        await house.offered(server)
    async with house.database.transaction() as session:
        moved = Changes(base_url="http://127.0.0.1:2/mcp")
        await house.servers.update(session, house.admin.principal, server.id, moved)
    house.prober.gate.set()
    await work.idle()
    async with house.database.reading() as session:
        connection = await house.servers.connection(session, house.admin.principal, server.id)
    assert connection.url == "http://127.0.0.1:2/mcp"
    assert house.prober.looks == ["moved"] * 3
