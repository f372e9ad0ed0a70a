"""Legacy sessions in one process and several: nobody else's, ended everywhere, restored, and free if unused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from gateway.mcp.envelope import Message
from gateway.mcp.flights import ClientGone, Flight
from gateway.mcp.session import LegacySession
from gateway.mcp.sessions import IN_MEMORY, LOOK_BACK_SECONDS, RENEWALS, LegacySessions
from registry.core.security import Digester, Sealer
from registry.identity.principal import Principal
from tests.gateway.mcp.made import principal
from tests.registry.sessions.memory import MemorySessions, Shelf
from tests.support.attacks import attack
from tests.support.clock import SettableClock

MASTER = b"m" * 32
IDLE = 24 * 3600.0
OWNER = principal()
OTHERS = [principal(user="u2"), principal(key_id=7), principal(user="u1 "), principal(user="user:u1")]


class House:
    """Processes that share a store and a clock."""

    def __init__(self) -> None:
        self.clock = SettableClock()
        self.shelf = Shelf(self.clock)
        self.over: list[LegacySession] = []
        self.watched: list[set[str]] = []

    def process(self) -> LegacySessions:
        return LegacySessions(
            Sealer(MASTER, "sessions"),
            Digester(MASTER, "sessions"),
            self.clock,
            MemorySessions(self.shelf),
            idle_seconds=IDLE,
            on_end=self.over.append,
            on_watched=self.watched.append,
        )


@pytest.fixture
def house() -> House:
    return House()


async def opened(process: LegacySessions, who: Principal = OWNER) -> LegacySession:
    return await found(process, process.open(who, "2025-11-25", b"{}"), who)


async def found(process: LegacySessions, identifier: str, who: Principal = OWNER) -> LegacySession:
    session = await process.recall(who, identifier)
    assert session is not None
    return session


def flying() -> Flight:
    """A call under way."""
    flight = Flight(None, "o1", 0.0, ClientGone)
    flight.task = asyncio.create_task(asyncio.sleep(3600))
    return flight


# -- whose it is


@attack(19)
@pytest.mark.parametrize("other", OTHERS)
async def test_a_session_is_nobody_elses(house: House, other: Any) -> None:
    process = house.process()
    identifier = process.open(OWNER, "2025-11-25", b"{}")
    assert await process.recall(other, identifier) is None
    session = await found(process, identifier)
    assert process.find(OWNER, identifier) is session
    assert process.find(other, identifier) is None
    assert await process.recall(other, identifier) is None


@attack(19)
async def test_an_altered_session_id_is_unknown(house: House) -> None:
    process = house.process()
    identifier = process.open(OWNER, "2025-11-25", b"{}")
    for place in range(len(identifier)):
        for letter in "AB=/\x00ü":
            altered = identifier[:place] + letter + identifier[place + 1 :]
            assert altered == identifier or await process.recall(OWNER, altered) is None
    for altered in ("", identifier[:-1], identifier + "A", identifier + "=", identifier[::-1], "\udcff"):
        assert await process.recall(OWNER, altered) is None


async def test_an_ended_session_stays_ended_however_its_id_is_spelt(house: House) -> None:
    process = house.process()
    for length in range(4):
        identifier = process.open(OWNER, "2025-11-25", b"{" + b" " * length + b"}")
        process.end(await found(process, identifier))
        assert await process.recall(OWNER, identifier) is None
        body = identifier.rstrip("=")
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            assert await process.recall(OWNER, body[:-1] + letter + identifier[len(body) :]) is None


async def test_what_the_store_holds_opens_nothing(house: House) -> None:
    process = house.process()
    session = await opened(process)
    session.bind("s1", b"secret-upstream-id")
    await process.save()
    assert len(house.shelf.records) == 1
    stored = json.dumps({key: record.fields for key, record in house.shelf.records.items()})
    assert session.id not in stored
    assert "secret-upstream-id" not in stored


# -- what it costs


@pytest.mark.requirement("legacy-http.abandoned")
async def test_abandoned_sessions_cost_nothing_and_used_ones_are_bounded(house: House) -> None:
    process = house.process()
    for _ in range(100_000):
        process.open(OWNER, "2025-11-25", b"{}")
    assert process.in_use() == []
    for _ in range(IN_MEMORY + 50):
        await opened(process)
    assert len(process.in_use()) == IN_MEMORY
    await process.save()
    await process.sweep()
    await process.save()
    assert house.shelf.saves == 0


async def test_only_changes_are_written(house: House) -> None:
    process = house.process()
    session = await opened(process)
    for _ in range(3):
        session.set_level("info")
        session.bind("s1", None)
        await process.save()
    assert house.shelf.saves == 1


async def test_a_session_that_was_just_opened_here_is_looked_for_nowhere_else(house: House) -> None:
    here, there = house.process(), house.process()
    identifier = here.open(OWNER, "2025-11-25", b"{}")
    await found(here, identifier)
    assert house.shelf.loads == 0
    await found(there, identifier)
    late = here.open(OWNER, "2025-11-25", b"{}")
    house.clock.advance(LOOK_BACK_SECONDS)
    await found(here, late)
    assert house.shelf.loads == 2


async def test_what_another_process_has_made_of_it_meanwhile_is_soon_known(house: House) -> None:
    here, there = house.process(), house.process()
    identifier = here.open(OWNER, "2025-11-25", b"{}")
    there.end(await found(there, identifier))
    await found(here, identifier)
    await there.save()
    await here.poll()
    assert await here.recall(OWNER, identifier) is None


async def test_what_is_known_of_ended_sessions_is_bounded(house: House) -> None:
    process = house.process()
    first = await opened(process)
    process.end(first)
    for _ in range(IN_MEMORY):
        process.end(await opened(process))
    assert len(process._ended) == IN_MEMORY
    assert await process.recall(OWNER, first.id) is None, "it is still to be saved"
    await process.save()
    assert await process.recall(OWNER, first.id) is None, "the store knows it"


async def test_what_is_known_of_ended_sessions_is_forgotten_in_time(house: House) -> None:
    process = house.process()
    for _ in range(2000):
        process.end(await opened(process))
        house.clock.advance(IDLE / 100)
    assert len(process._ended) <= 102


# -- how long it lasts


async def test_a_session_lasts_as_long_as_it_is_used(house: House) -> None:
    process = house.process()
    used, unused = (process.open(OWNER, "2025-11-25", b"{}") for _ in range(2))
    for _ in range(3 * RENEWALS):
        await found(process, used)
        await process.sweep()
        await process.save()
        house.clock.advance(IDLE / RENEWALS)
    assert await process.recall(OWNER, unused) is None
    assert await house.process().recall(OWNER, used) is not None, "it is known elsewhere that it was used"
    house.clock.advance(IDLE)
    assert await process.recall(OWNER, used) is None
    assert await house.process().recall(OWNER, used) is None


async def test_an_idle_session_is_over_and_its_servers_hear_of_it(house: House) -> None:
    process = house.process()
    session = await opened(process)
    await process.sweep()
    house.clock.advance(IDLE + 1)
    assert process.find(OWNER, session.id) is None
    await process.sweep()
    assert house.over == [session]
    assert process.in_use() == []


# -- restarts and other processes


async def test_it_goes_on_in_another_process(house: House) -> None:
    first = house.process()
    session = await opened(first)
    session.bind("s1", b"upstream-1")
    session.set_level("debug")
    session.watch(("s1", "file:///a b"), "file:///a b")
    session.watch(("s1", "gone"), "gone")
    session.unwatch(("s1", "gone"))
    await first.stop()
    again = await found(house.process(), session.id)
    assert again is not session
    assert again.upstream_ids == {"s1": b"upstream-1"}
    assert again.restored == {"s1"}
    assert again.log_level == "debug"
    assert again.subscriptions == {("s1", "file:///a b"): "file:///a b"}
    assert house.watched == [{"s1"}]


async def test_an_end_is_known_everywhere(house: House) -> None:
    here, there, late = house.process(), house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    abroad.take_off(b"1", call := flying())
    here.end(session)
    assert await here.recall(OWNER, session.id) is None
    await here.save()
    assert await late.recall(OWNER, session.id) is None
    await there.poll()
    assert await there.recall(OWNER, session.id) is None
    assert isinstance(call.failure, ClientGone)
    assert house.over == [session], "its servers are told once"


async def test_two_that_open_a_session_at_a_server_at_once_agree_on_the_first(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    session.bind("s1", b"mine")
    abroad.bind("s1", b"theirs")
    await here.save()
    await there.save()
    assert abroad.upstream_ids == {"s1": b"mine"}
    abroad.unbind("s1", b"mine")
    abroad.bind("s1", b"new")
    await there.save()
    await here.poll()
    assert session.upstream_ids == {"s1": b"new"}


async def test_one_that_hears_of_another_session_before_it_saved_its_own_adopts_that(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    session.bind("s1", b"mine")
    await here.save()
    abroad.bind("s1", b"theirs")
    await there.poll()
    await there.save()
    await here.poll()
    assert abroad.upstream_ids == session.upstream_ids == {"s1": b"mine"}


async def test_before_a_session_at_a_server_is_opened_others_are_asked_for_it(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    session.bind("s1", b"mine")
    await here.save()
    house.clock.advance(0.1)
    assert await abroad.knows("s1")
    assert abroad.upstream_ids == {"s1": b"mine"}
    assert not await abroad.knows("s2")
    house.shelf.away = True
    house.clock.advance(0.1)
    assert not await abroad.knows("s2")


async def test_changes_in_one_process_arrive_in_the_other(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    session.watch(("s1", "u"), "u")
    abroad.set_level("error")
    await here.save()
    await there.save()
    await here.poll()
    await there.poll()
    for one in (session, abroad):
        assert (one.subscriptions, one.log_level) == ({("s1", "u"): "u"}, "error")


async def test_an_answer_reaches_the_process_that_asked(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    heard: list[Message] = []
    identifier = session.expect(heard.append)
    assert not abroad.hear(Message("2.0", id=msgspec.Raw(identifier), result=msgspec.Raw(b'{"ok":1}')))
    await there.save()
    await here.poll()
    assert [bytes(message.result) for message in heard] == [b'{"ok":1}']
    await here.poll()
    await here.save()
    assert len(heard) == 1
    assert all(record.fields == {} for record in house.shelf.records.values()), "it was taken away"


async def test_a_cancellation_reaches_the_process_that_has_the_call(house: House) -> None:
    here, there = house.process(), house.process()
    session = await opened(here)
    abroad = await found(there, session.id)
    session.take_off(b"7", call := flying())
    abroad.give_up(b"7")
    await there.save()
    await here.poll()
    assert isinstance(call.failure, ClientGone)


async def test_a_request_can_be_withdrawn_before_it_has_taken_off(house: House) -> None:
    session = await opened(house.process())
    session.arrive(b"7")
    session.give_up(b"7")
    session.take_off(b"7", call := flying())
    assert isinstance(call.failure, ClientGone)
    session.answered(b"7")
    session.land(b"7", call)
    session.take_off(b"7", again := flying())
    assert again.failure is None


async def test_of_two_calls_with_one_id_none_is_lost(house: House) -> None:
    session = await opened(house.process())
    first, second = flying(), flying()
    session.take_off(b"1", first)
    session.take_off(b"1", second)
    session.land(b"1", second)
    session.give_up(b"1")
    assert isinstance(first.failure, ClientGone)
    assert second.failure is None


async def test_what_is_left_for_nobody_is_dropped(house: House) -> None:
    process = house.process()
    session = await opened(process)
    for number in range(1000):
        session.give_up(b"%d" % number)
    await process.save()
    (record,) = house.shelf.records.values()
    assert 0 < len(record.fields) <= 32
    await process.sweep()
    await process.sweep()
    await process.save()
    (record,) = house.shelf.records.values()
    assert record.fields == {}


# -- a store that does not answer


async def test_calls_go_on_without_the_store_and_what_happened_is_saved_later(house: House) -> None:
    process = house.process()
    house.shelf.away = True
    session = await opened(process)
    session.bind("s1", b"upstream-1")
    session.set_level("info")
    await process.save()
    session.set_level("debug")
    assert process.find(OWNER, session.id) is session
    ended = await opened(process)
    process.end(ended)
    assert await process.recall(OWNER, ended.id) is None
    house.shelf.away = False
    await process.save()
    again = await found(house.process(), session.id)
    assert (again.upstream_ids, again.log_level) == ({"s1": b"upstream-1"}, "debug")
    assert await house.process().recall(OWNER, ended.id) is None


async def test_one_that_was_forgotten_before_it_was_saved_comes_back_whole(house: House) -> None:
    process = house.process()
    house.shelf.away = True
    session = await opened(process)
    session.set_level("debug")
    process._forget(session, ended=False)
    assert (await found(process, session.id)).log_level == "debug"


# -- requests to the client


async def test_requests_to_a_client_are_bounded_and_answered_once(house: House) -> None:
    session = await opened(house.process())
    heard: list[Message] = []
    asked = [session.expect(heard.append) for _ in range(500)]
    assert len(set(asked)) == 500
    assert not session.hear(Message("2.0", id=msgspec.Raw(asked[0])))
    assert session.hear(Message("2.0", id=msgspec.Raw(asked[-1])))
    assert not session.hear(Message("2.0", id=msgspec.Raw(asked[-1])))
    assert len(heard) == 1
