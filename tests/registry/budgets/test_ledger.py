"""Desks and the ledger on both databases: what fits passes, the rest is refused, and every sum holds."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.budgets.desk import TICK_SECONDS, Desk
from registry.budgets.errors import BudgetExceeded, LeaseLost
from registry.budgets.events import BudgetAlert
from registry.budgets.ledger import LEASE_SECONDS, Booking, Ledger
from registry.budgets.queries import StoredTerms
from registry.budgets.service import LimitChanges
from registry.core.db import Database
from registry.core.events import EventBus
from tests.registry.budgets.house import House, furnish
from tests.registry.budgets.sums import accounts


@pytest.fixture
async def house(database: Database, events: EventBus) -> House:
    return await furnish(database, events)


async def _rush(house: House, desks: list, calls: int, **of: object) -> int:
    """So many calls at once, each spread over the desks; how many passed and were settled."""

    async def one(number: int) -> bool:
        desk = desks[number % len(desks)]
        try:
            held = await house.reserve(desk, **of)
        except BudgetExceeded:
            return False
        await asyncio.sleep(0)
        desk.settle(held, float(of.get("usd", 0.0)), 1)
        return True

    return sum(await asyncio.gather(*(one(number) for number in range(calls))))


@pytest.mark.parametrize("processes", [1, 3])
async def test_as_many_calls_pass_as_the_limit_allows(house: House, processes: int) -> None:
    await house.limit(50)
    desks = [await house.desk() for _ in range(processes)]
    assert await _rush(house, desks, 200) == 50
    for desk in desks:
        await desk.stop()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (50, 0)


async def test_dollars_are_counted_to_the_last_part(house: House) -> None:
    await house.limit(1.0, unit="usd")
    desk = await house.desk()
    assert await _rush(house, [desk], 30, usd=0.07) == 14
    await desk.stop()
    (account,) = await accounts(house.database)
    assert account.spent == 980_000_000


async def test_what_was_not_used_is_free_again(house: House) -> None:
    await house.limit(2)
    desk = await house.desk()
    first, second = await house.reserve(desk), await house.reserve(desk)
    with pytest.raises(BudgetExceeded):
        await house.reserve(desk)
    desk.release(second)
    desk.settle(first, 0.0, 1)
    await house.reserve(desk)
    with pytest.raises(BudgetExceeded) as refused:
        await house.reserve(desk)
    assert refused.value.details["limit"] == "limit"
    assert refused.value.details["resets_at"] == "2026-11-23T00:00:00Z"


async def test_idle_allotments_return_within_a_second(house: House) -> None:
    await house.limit(10_000)
    busy, other = await house.desk(), await house.desk()
    for _ in range(12):
        busy.settle(await house.reserve(busy), 0.0, 1)
    assert (await accounts(house.database))[0].reserved > 12
    passed = 0.0
    while passed + TICK_SECONDS <= 1.0:
        passed += TICK_SECONDS
        house.clock.advance(TICK_SECONDS)
        await busy.tick()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (12, 0)
    await other.stop()


async def test_near_the_limit_an_allotment_is_one_call(house: House) -> None:
    await house.limit(7)
    desk = await house.desk()
    for taken in range(1, 8):
        await house.reserve(desk)
        assert (await accounts(house.database))[0].reserved == taken


async def test_most_calls_of_a_busy_process_wait_for_nothing(house: House) -> None:
    await house.limit(1_000_000)
    desk = await house.desk()
    who = house.admin.principal
    waits = 0
    for _ in range(2_000):
        held = desk.reserve(who.org_id, who.user_id, None, "s", "t", 0.0, 1)
        if held is None:
            waits += 1
            held = await desk.reserve_later(who.org_id, who.user_id, None, "s", "t", 0.0, 1)
        desk.settle(held, 0.0, 1)
        await asyncio.sleep(0)
    assert waits < 20
    await desk.stop()
    assert (await accounts(house.database))[0].spent == 2_000


async def test_what_a_dead_process_held_is_spent(house: House) -> None:
    await house.limit(10)
    dead, living = await house.desk(), await house.desk()
    for _ in range(3):
        await house.reserve(dead)
    dead.settle(await house.reserve(dead), 0.0, 1)
    house.clock.advance(LEASE_SECONDS + 1)
    await living.tick()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (4, 0)
    assert await _rush(house, [living], 20) == 6


async def test_a_living_process_keeps_its_reservations(house: House) -> None:
    await house.limit(10)
    holding, other = await house.desk(), await house.desk()
    held = await house.reserve(holding)
    for _ in range(5):
        house.clock.advance(LEASE_SECONDS - 1)
        await holding.tick()
        await other.tick()
    assert (await accounts(house.database))[0].reserved == 1
    holding.settle(held, 0.0, 1)
    await holding.tick()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (1, 0)


async def test_a_process_taken_for_dead_begins_anew(house: House) -> None:
    await house.limit(10)
    slow, other = await house.desk(), await house.desk()
    old = [await house.reserve(slow) for _ in range(4)]
    house.clock.advance(LEASE_SECONDS + 1)
    await other.tick()
    assert (await accounts(house.database))[0].spent == 4
    # It may still use what it held, which is spent by now; nothing of it is booked again, or free.
    slow.settle(old[0], 0.0, 1)
    slow.release(old[1])
    house.clock.advance(TICK_SECONDS)
    await slow.tick()
    assert await _rush(house, [slow, other], 30) == 6
    await slow.stop()
    await other.stop()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (10, 0)


async def test_a_settlement_that_is_sent_again_is_booked_once(house: House) -> None:
    await house.limit(10)
    desk = await house.desk()
    await house.reserve(desk)
    period = next(iter(desk._accounts)).period_id
    assert period is not None
    for _ in range(2):
        await desk._ledger.book([Booking(period, spent=1)], 1)
    assert (await accounts(house.database))[0].spent == 1


async def test_a_lapsed_lease_settles_nothing(house: House) -> None:
    await house.limit(10)
    dead, other = await house.desk(), await house.desk()
    await house.reserve(dead)
    period = next(iter(dead._accounts)).period_id
    assert period is not None
    house.clock.advance(LEASE_SECONDS + 1)
    assert await other._ledger.lapse() == 1
    with pytest.raises(LeaseLost):
        await dead._ledger.book([Booking(period, spent=1)], 1)


async def test_a_cost_known_afterwards_is_told_as_overrun(house: House) -> None:
    await house.limit(100, unit="tokens")
    desk = await house.desk()
    held = await house.reserve(desk, tokens=60)
    desk.settle(held, 0.0, 130)
    await desk.tick()
    (account,) = await accounts(house.database)
    assert (account.spent, account.overrun) == (60, 70)
    (limit,) = await house.limits()
    assert limit.spent == 130
    with pytest.raises(BudgetExceeded):
        await house.reserve(desk, tokens=1)


async def test_warn_lets_pass_and_tells_each_threshold_once_a_period(house: House) -> None:
    await house.limit(10, action_on_exceed="warn", alert_threshold=0.5)
    desks = [await house.desk(), await house.desk()]
    for _ in range(4):
        assert await _rush(house, desks, 6) == 6
        for desk in desks:
            await desk.tick()
    levels = [event.level for event in house.heard if isinstance(event, BudgetAlert)]
    assert levels == ["warning", "critical"]
    async with house.database.reading() as session:
        told = select(AuditEntry.detail).where(AuditEntry.action == "budgets.limits.alert")
        assert [detail["level"] for detail in await session.scalars(told)] == levels
    assert (await accounts(house.database))[0].spent == 24
    house.clock.advance(24 * 3600)
    assert await _rush(house, desks, 20) == 20
    for desk in desks:
        await desk.stop()
    levels = [event.level for event in house.heard if isinstance(event, BudgetAlert)]
    assert levels.count("critical") == 2


async def test_pause_stays_shut_until_somebody_resumes(house: House) -> None:
    limit = await house.limit(2, action_on_exceed="pause")
    desk = await house.desk()
    assert await _rush(house, [desk], 5) == 2
    await desk._reload()
    house.clock.advance(48 * 3600)
    with pytest.raises(BudgetExceeded) as refused:
        await house.reserve(desk)
    assert refused.value.details["paused"] is True
    async with house.database.transaction() as session:
        resumed = await house.service.resume_limit(session, house.admin.principal, limit.id)
    assert resumed.paused is False
    await desk._reload()
    assert await _rush(house, [desk], 5) == 2


async def test_a_raised_limit_lets_more_pass_at_once(house: House) -> None:
    limit = await house.limit(2)
    desk = await house.desk()
    assert await _rush(house, [desk], 5) == 2
    async with house.database.transaction() as session:
        await house.service.update_limit(session, house.admin.principal, limit.id, LimitChanges(amount=3))
    await desk._reload()
    assert await _rush(house, [desk], 5) == 1


async def test_a_removed_limit_holds_nothing_and_keeps_its_ledger(house: House) -> None:
    limit = await house.limit(2)
    desk = await house.desk()
    held = await house.reserve(desk)
    async with house.database.transaction() as session:
        await house.service.delete_limit(session, house.admin.principal, limit.id)
    # Before this process has heard of it, and after.
    assert await _rush(house, [desk], 5) == 5
    await desk._reload()
    assert await _rush(house, [desk], 5) == 5
    desk.settle(held, 0.0, 1)
    await desk.stop()
    (account,) = await accounts(house.database)
    assert account.reserved == 0


async def test_a_call_is_held_by_every_limit_it_is_subject_to(house: House) -> None:
    await house.limit(5, name="all")
    await house.limit(3, name="mine", scope_type="user", scope_id=house.admin.user.id)
    desk = await house.desk()
    assert await _rush(house, [desk], 10) == 3
    await desk.stop()
    # What the wider limit had reserved for calls that the narrower refused is free again.
    assert [account.spent for account in await accounts(house.database)] == [3, 3]
    assert all(account.reserved == 0 for account in await accounts(house.database))


async def test_a_caller_that_gives_up_leaves_nothing_behind(house: House) -> None:
    await house.limit(5)
    desk = await house.desk()
    waiting = [asyncio.create_task(house.reserve(desk)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await _rush(house, [desk], 10) == 3
    await desk.tick()
    desk.release(waiting[1].result() + waiting[2].result())
    await desk.stop()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (3, 0)


async def test_what_was_returned_must_be_taken_anew(house: House) -> None:
    await house.limit(3)
    desk, other = await house.desk(), await house.desk()
    desk.release(await house.reserve(desk))
    for _ in range(2):
        await desk.tick()
    assert (await accounts(house.database))[0].reserved == 0
    assert await _rush(house, [other], 2) == 2
    assert await _rush(house, [desk], 2) == 1
    await desk.stop()
    await other.stop()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (3, 0)


async def test_a_database_that_is_away_is_told_once_and_what_was_spent_is_booked_when_it_is_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise OSError("the database is away")

    async def rounds(count: int) -> list[str]:
        with capture_logs() as logs:
            for _ in range(count):
                house.clock.advance(TICK_SECONDS)
                await desk.tick()
        return [line["event"] for line in logs]

    await house.limit(10)
    desk = await house.desk()
    told = [
        "budgets could not be settled, trying again",
        "changes of budget limits could not be looked for, trying again",
    ]
    for _ in range(2):
        assert await rounds(4) == []
        desk.settle(await house.reserve(desk), 0.0, 1)
        with monkeypatch.context() as patch:
            patch.setattr(desk._ledger, "book", away)
            patch.setattr(desk._ledger, "lapse", away)
            assert sorted(await rounds(12)) == told
        # Limits alone cannot be read: a fault of its own, of which the same holds.
        desk._signature = None
        with monkeypatch.context() as patch:
            patch.setattr(desk._source, "load", away)
            assert await rounds(12) == ["budget limits could not be read, trying again"]
    await desk.stop()
    (account,) = await accounts(house.database)
    assert (account.spent, account.reserved) == (2, 0)


async def test_nothing_starts_without_its_limits(house: House) -> None:
    class Away(StoredTerms):
        async def signature(self) -> object:
            raise OSError("the database is away")

    desk = Desk(Ledger(house.database, house.clock, AuditService(house.clock)), Away(house.database), house.clock)
    with pytest.raises(OSError, match="away"):
        await desk.start()
    await desk.stop()
