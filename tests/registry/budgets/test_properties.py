"""Whatever calls, processes, clocks and people do in any order: no more is held and spent than the limit allows."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event

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
        self.statements = 0
        event.listen(self.database.engine.sync_engine, "after_cursor_execute", self._count)
        self.house: House = self.do(furnish(self.database, EventBus()))
        self.desks: list[Desk] = []
        self.calls: list[tuple[Desk, Held, int]] = []
        self.sent = 0
        self.largest = 0

    def _count(self, *_: object) -> None:
        self.statements += 1

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(amount=st.integers(0, 40))
    def begin(self, amount: int) -> None:
        self.limit = self.do(self.house.limit(amount, unit="tokens"))
        self.largest = amount
        self.desks = [self.do(self.house.desk()) for _ in range(2)]

    @rule(calls=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=12))
    def call(self, calls: list[tuple[int, int]]) -> None:
        """All at once, in both processes."""

        async def rush() -> list[Any]:
            waiting = (self.house.reserve(self.desks[which], tokens=cost) for which, cost in calls)
            return await asyncio.gather(*waiting, return_exceptions=True)

        for (which, cost), held in zip(calls, self.do(rush()), strict=True):
            if isinstance(held, list):
                self.sent += cost
                self.calls.append((self.desks[which], held, cost))
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

    @rule(number=st.integers(0, 99), used=st.booleans())
    def end_call(self, number: int, used: bool) -> None:
        # What is drawn must not hang on what passed, which a driver's thread has a part in.
        if not self.calls:
            return
        desk, held, cost = self.calls.pop(number % len(self.calls))
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

    @rule(
        which=st.integers(0, 1),
        costs=st.lists(st.integers(1, 9), min_size=1, max_size=8),
        statements=st.integers(0, 16),
    )
    def crash_amid(self, which: int, costs: list[int], statements: int) -> None:
        """It dies after so many statements: before, in or after a transaction. What had passed by then is sent."""
        dead, last = self.desks[which], self.statements + statements

        async def rush() -> list[asyncio.Future[Held]]:
            waiting = [asyncio.ensure_future(self.house.reserve(dead, tokens=cost)) for cost in costs]
            ticking = asyncio.ensure_future(dead.tick())
            while self.statements < last and not all(task.done() for task in (*waiting, ticking)):
                await asyncio.sleep(0)
            passed = [task for task in waiting if task.done() and not task.exception()]
            for task in (*waiting, ticking, *dead._tasks):
                task.cancel()
            await asyncio.gather(*waiting, ticking, *dead._tasks, return_exceptions=True)
            return passed

        for task in self.do(rush()):
            self.sent += sum(amount for _, amount in task.result())
        self.crash(which)

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
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=checks,
                # Not shrunk: each example makes a database, and a failure is to be seen soon.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
            ),
        )
