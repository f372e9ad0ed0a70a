"""One organisation with a limit, and any number of processes' desks on one database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.audit.service import AuditService
from registry.budgets.desk import Desk, Held
from registry.budgets.ledger import Ledger
from registry.budgets.queries import StoredTerms
from registry.budgets.service import BudgetService, NewLimit
from registry.budgets.views import LimitView
from registry.core.db import Database
from registry.core.events import Event, EventBus
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user


@dataclass
class House:
    database: Database
    clock: SettableClock
    admin: Person
    service: BudgetService
    heard: list[Event] = field(default_factory=list)

    async def limit(self, amount: float, **more: Any) -> LimitView:
        fields = {"name": "limit", "unit": "calls", "action_on_exceed": "block", **more}
        async with self.database.transaction() as session:
            return await self.service.create_limit(session, self.admin.principal, NewLimit(amount=amount, **fields))

    async def limits(self) -> Sequence[LimitView]:
        async with self.database.reading() as session:
            return (await self.service.limits(session, self.admin.principal)).items

    async def desk(self) -> Desk:
        """A process of its own, whose clock the test moves and whose ticks it makes."""
        ledger = Ledger(self.database, self.clock, AuditService(self.clock))
        desk = Desk(ledger, StoredTerms(self.database), self.clock)
        await desk._reload()
        return desk

    async def reserve(
        self, desk: Desk, *, server: str = "s", tool: str = "t", usd: float = 0.0, tokens: int = 1
    ) -> Held:
        who = self.admin.principal
        subject = (who.org_id, who.user_id, who.key_id, server, tool)
        held = desk.reserve(*subject, usd, tokens)
        return held if held is not None else await desk.reserve_later(*subject, usd, tokens)


async def furnish(database: Database, events: EventBus) -> House:
    clock = SettableClock()
    org_id = await add_organization(database, clock, "acme")
    admin = await add_user(database, clock, org_id, "ada@acme.test", role="admin", is_operator=True)
    house = House(database, clock, admin, BudgetService(clock, AuditService(clock)))
    events.subscribe(Event, house.heard.append)
    return house
