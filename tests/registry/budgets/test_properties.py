"""Whatever calls, processes, clocks and people do in any order: no more is held and spent than the limit allows."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry.budgets.desk import Desk, Held
from registry.budgets.errors import BudgetExceeded
from registry.budgets.ledger import LEASE_SECONDS
from registry.budgets.service import LimitChanges
from registry.core.db import Database
from registry.core.events import EventBus
from tests.registry.budgets.house import House, furnish
from tests.registry.budgets.sums import accounts


class LedgerMachine(RuleBasedStateMachine):
    """Several processes on one database; `sent` counts what really went out, which the ledger may never undercount."""

    open_database: ClassVar[Callable[[], Database]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = self.open_database()
        self.house: House = self.do(furnish(self.database, EventBus()))
        self.desks: list[Desk] = []
        self.calls: list[tuple[Desk, Held, int]] = []
        self.sent = 0
        self.largest = 0

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(amount=st.integers(0, 40))
    def begin(self, amount: int) -> None:
        self.limit = self.do(self.house.limit(amount, unit="tokens"))
        self.largest = amount
        self.desks = [self.do(self.house.desk()) for _ in range(2)]

    @rule(which=st.integers(0, 1), costs=st.lists(st.integers(1, 9), min_size=1, max_size=12))
    def call(self, which: int, costs: list[int]) -> None:
        desk = self.desks[which]

        async def rush() -> list[Any]:
            waiting = (self.house.reserve(desk, tokens=cost) for cost in costs)
            return await asyncio.gather(*waiting, return_exceptions=True)

        for cost, held in zip(costs, self.do(rush()), strict=True):
            if isinstance(held, list):
                self.sent += cost
                self.calls.append((desk, held, cost))
            else:
                assert isinstance(held, BudgetExceeded), held

    @rule(which=st.integers(0, 1), costs=st.lists(st.integers(1, 9), min_size=2, max_size=6))
    def give_up_waiting(self, which: int, costs: list[int]) -> None:
        async def rush() -> None:
            waiting = [asyncio.ensure_future(self.house.reserve(self.desks[which], tokens=cost)) for cost in costs]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            for held in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(held, list):
                    self.desks[which].release(held)
            await asyncio.gather(*self.desks[which]._tasks)

        self.do(rush())

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), used=st.booleans())
    def end_call(self, data: st.DataObject, used: bool) -> None:
        desk, held, cost = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        if used:
            desk.settle(held, 0.0, cost)
        else:
            self.sent -= cost
            desk.release(held)

    @rule(which=st.integers(0, 1), seconds=st.sampled_from([0.0, 0.4, 5.0]), times=st.integers(1, 2))
    def tick(self, which: int, seconds: float, times: int) -> None:
        for _ in range(times):
            self.house.clock.advance(seconds)
            self.do(self.desks[which].tick())

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        """A process is gone with all its memory, and another takes its place."""
        dead = self.desks[which]
        self.calls = [call for call in self.calls if call[0] is not dead]
        self.desks[which] = self.do(self.house.desk())

    @rule(which=st.integers(0, 1))
    def stop(self, which: int) -> None:
        stopped = self.desks[which]
        self.calls = [call for call in self.calls if call[0] is not stopped]
        self.do(stopped.stop())
        self.desks[which] = self.do(self.house.desk())

    @rule(which=st.integers(0, 1))
    def expire(self, which: int) -> None:
        """All leases run out; the process that looks first books what the others hold."""
        self.house.clock.advance(LEASE_SECONDS + 1)
        self.do(self.desks[which].tick())

    @rule(more=st.integers(1, 20))
    def raise_limit(self, more: int) -> None:
        self.largest += more

        async def change() -> None:
            async with self.database.transaction() as session:
                changes = LimitChanges(amount=self.largest)
                await self.house.service.update_limit(session, self.house.admin.principal, self.limit.id, changes)
            for desk in self.desks:
                await desk._reload()

        self.do(change())

    @invariant()
    def nothing_is_overspent(self) -> None:
        found = self.do(accounts(self.database))
        for account in found:
            assert account.spent + account.reserved <= account.amount
            assert account.overrun == 0
            assert self.sent <= account.spent + account.reserved
        assert found or self.sent == 0

    def teardown(self) -> None:
        self.do(self.database.close())
        self.runner.close()


def test_the_ledger_never_overspends(sqlite_template: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        numbers = iter(range(1_000_000))

        def open_database() -> Database:
            path = Path(directory) / f"{next(numbers)}.db"
            shutil.copy(sqlite_template, path)
            return Database(f"sqlite+aiosqlite:///{path}", EventBus())

        machine = type("Machine", (LedgerMachine,), {"open_database": staticmethod(open_database)})
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
        run_state_machine_as_test(
            machine,
            settings=settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=checks),
        )
