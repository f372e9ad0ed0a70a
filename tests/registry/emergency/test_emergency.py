"""Who may press and end the emergency stop, what stays of it, and what each process knows."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event, func, select

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.core.events import EventBus
from registry.emergency.errors import StopStateUnknown
from registry.emergency.events import EmergencyResumed, EmergencyStopped
from registry.emergency.models import EmergencyStop
from registry.emergency.service import EmergencyService
from registry.emergency.stop import Stop
from registry.emergency.switch import BLIND_SECONDS, POLL_SECONDS, EmergencySwitch
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def service(clock: SettableClock) -> EmergencyService:
    return EmergencyService(clock, AuditService(clock))


@pytest.fixture
async def admin(database: Database, clock: SettableClock) -> Person:
    org_id = await add_organization(database, clock, "acme")
    return await add_user(database, clock, org_id, "admin@acme.test", role="admin")


@pytest.fixture
async def operator(database: Database, clock: SettableClock) -> Person:
    org_id = await add_organization(database, clock, "house")
    return await add_user(database, clock, org_id, "op@house.test", role="admin", is_operator=True)


async def _pause(database: Database, service: EmergencyService, who: Person, *words: str) -> Stop:
    async with database.transaction() as session:
        return await service.pause(session, who.principal, *words)  # type: ignore[arg-type]


async def test_a_stop_says_who_when_and_why(
    database: Database, clock: SettableClock, service: EmergencyService, admin: Person
) -> None:
    stop = await _pause(database, service, admin, "organization", "Agents ran wild.")
    assert (stop.scope, stop.org_id, stop.by) == ("organization", admin.user.org_id, admin.principal.subject)
    assert (stop.reason, stop.since) == ("Agents ran wild.", clock.now())
    assert stop.covers(admin.user.org_id)
    assert not stop.covers("another")
    clock.advance(60)
    async with database.transaction() as session:
        assert await service.resume(session, admin.principal, "organization", "Fixed.") == stop
        assert await service.resume(session, admin.principal) is None
    async with database.reading() as session:
        kept = (await session.scalars(select(EmergencyStop))).one()
        assert (kept.ended_at, kept.ended_by, kept.ended_why) == (clock.now(), admin.principal.subject, "Fixed.")
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.at))).all()
        assert [entry.action for entry in entries] == ["emergency.pause", "emergency.resume", "emergency.resume"]
        assert entries[0].detail == {"scope": "organization", "reason": "Agents ran wild.", "already_stopped": False}
        assert {entry.detail["was_stopped"] for entry in entries[1:]} == {True, False}


async def test_permissions(database: Database, clock: SettableClock, service: EmergencyService, admin: Person) -> None:
    member = await add_user(database, clock, admin.user.org_id, "m@acme.test")
    with pytest.raises(Forbidden, match="emergency:manage"):
        await _pause(database, service, member)
    with pytest.raises(Forbidden, match="gateway:operate"):
        await _pause(database, service, admin, "system")
    async with database.transaction() as session:
        with pytest.raises(Forbidden):
            await service.resume(session, member.principal)
        with pytest.raises(Forbidden):
            await service.resume(session, admin.principal, "system")
        assert await service.status(session, member.principal) == []


async def test_scopes_are_ended_apart(
    database: Database, service: EmergencyService, admin: Person, operator: Person
) -> None:
    await _pause(database, service, admin, "organization", "Ours.")
    await _pause(database, service, operator, "system", "All.")
    async with database.transaction() as session:
        assert [stop.reason for stop in await service.status(session, admin.principal)] == ["All.", "Ours."]
        await service.resume(session, operator.principal, "system")
        assert [stop.reason for stop in await service.status(session, admin.principal)] == ["Ours."]
        assert [stop.reason for stop in await service.status(session, operator.principal)] == ["Ours."]


async def test_two_who_press_at_once_both_succeed(
    database: Database, events: EventBus, service: EmergencyService, admin: Person
) -> None:
    told: list[EmergencyStopped] = []
    events.subscribe(EmergencyStopped, told.append)
    stops = await asyncio.gather(*(_pause(database, service, admin) for _ in range(5)))
    assert len({stop.id for stop in stops}) == 1
    assert [one.stop for one in told] == [stops[0]]
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(EmergencyStop)) == 1


async def test_a_switch_knows_at_once_what_happens_here_and_by_the_next_poll_what_happens_elsewhere(
    database: Database,
    database_url: str,
    clock: SettableClock,
    events: EventBus,
    service: EmergencyService,
    admin: Person,
) -> None:
    elsewhere_events = EventBus()
    elsewhere_database = Database(database_url, elsewhere_events)
    here = EmergencySwitch(database, events, clock)
    elsewhere = EmergencySwitch(elsewhere_database, elsewhere_events, clock)
    heard: list[Stop] = []
    elsewhere.on_stop(heard.append)
    org_id = admin.user.org_id
    try:
        await here.start()
        await elsewhere.start()
        assert here.standing(org_id) is None

        stop = await _pause(database, service, admin)
        assert here.standing(org_id) == stop
        assert here.standing("another") is None
        assert elsewhere.standing(org_id) is None
        while elsewhere.standing(org_id) is None:
            clock.advance(POLL_SECONDS)
            await asyncio.sleep(0.01)
        assert heard == [stop]

        async with database.transaction() as session:
            await service.resume(session, admin.principal)
        assert here.standing(org_id) is None
        await elsewhere.read()
        assert elsewhere.standing(org_id) is None
    finally:
        await here.stop()
        await elsewhere.stop()
        await elsewhere_database.close()


async def test_a_stop_is_there_before_a_new_process_serves(
    database: Database, clock: SettableClock, service: EmergencyService, admin: Person
) -> None:
    stop = await _pause(database, service, admin)
    switch = EmergencySwitch(database, EventBus(), clock)
    await switch.start()
    assert switch.standing(admin.user.org_id) == stop
    await switch.stop()


async def test_a_reading_older_than_a_press_does_not_undo_it(
    database: Database, clock: SettableClock, events: EventBus, admin: Person
) -> None:
    switch = EmergencySwitch(database, events, clock)
    stop = Stop("1", "organization", admin.user.org_id, "Now.", "user:1", clock.now())
    reading = asyncio.create_task(switch.read())
    await asyncio.sleep(0)
    # It is pressed while the table, which does not hold it yet, is being read.
    events.publish(EmergencyStopped(stop))
    assert switch._stops
    await reading
    # The second reading is the one that counts: it found the table as it is.
    assert not switch._stops
    events.publish(EmergencyResumed(stop, "user:1"))


async def test_what_cannot_be_read_is_unknown(
    database: Database, clock: SettableClock, events: EventBus, service: EmergencyService, admin: Person
) -> None:
    switch = EmergencySwitch(database, events, clock)
    with pytest.raises(StopStateUnknown):
        switch.standing(admin.user.org_id)
    began = clock.monotonic()
    await switch.read()
    # What is promised of a stop, its commit included.
    assert BLIND_SECONDS < 1.0
    clock.advance(BLIND_SECONDS - (clock.monotonic() - began))
    assert switch.standing(admin.user.org_id) is None
    clock.advance(0.1)
    with pytest.raises(StopStateUnknown, match="could not be read"):
        switch.standing(admin.user.org_id)
    await switch.read()
    assert switch.standing(admin.user.org_id) is None


async def test_a_process_that_stood_still_learns_of_a_stop_before_it_lets_anything_pass(
    database: Database, clock: SettableClock, service: EmergencyService, admin: Person
) -> None:
    """What bounds how late a stop is obeyed, without anything being quick: one reading, for all who wait for it."""
    switch, org_id = EmergencySwitch(database, EventBus(), clock), admin.user.org_id
    await switch.read()
    stop = await _pause(database, service, admin)
    assert switch.standing(org_id) is None
    clock.advance(BLIND_SECONDS + 0.01)
    reads: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "emergency_stops" in statement:
            reads.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", count)
    assert await asyncio.gather(*(switch.look(org_id) for _ in range(20))) == [stop] * 20
    assert len(reads) == 1
    await database.engine.dispose()
    clock.advance(BLIND_SECONDS + 0.01)
    event.listen(database.engine.sync_engine, "before_cursor_execute", _refuse)
    with pytest.raises(StopStateUnknown, match="reaches its database"):
        await switch.look(org_id)
    event.remove(database.engine.sync_engine, "before_cursor_execute", _refuse)
    assert await switch.look(org_id) == stop


def _refuse(*_: object) -> None:
    raise OSError("the database is away")
