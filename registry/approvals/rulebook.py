"""The rules as one process knows them: in memory for the data path, read anew every `POLL_SECONDS`.

A change made in this process is known at once, by its event; one made by another at the next poll. While the table
cannot be read, the rules last known hold.
"""

from __future__ import annotations

from registry.approvals import queries
from registry.approvals.events import RulesChanged
from registry.approvals.rule import Rule
from registry.approvals.views import as_rule
from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.events import EventBus
from registry.core.repeating import Repeating

POLL_SECONDS = 1.0


class Rulebook:
    def __init__(self, database: Database, events: EventBus, clock: Clock) -> None:
        self._database = database
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._changes = 0
        self._polling = Repeating(clock, POLL_SECONDS, self.read, "the approval rules could not be read")
        events.subscribe(RulesChanged, self._changed)

    def of(self, org_id: str) -> tuple[Rule, ...]:
        """An organisation's rules, oldest first."""
        return self._rules.get(org_id, ())

    async def start(self) -> None:
        """Read the table, then keep reading it. What cannot be read ends the start."""
        await self.read()
        self._polling.start()

    async def stop(self) -> None:
        await self._polling.stop()

    async def read(self) -> None:
        """Read the table once."""
        while True:
            changes = self._changes
            async with self._database.reading() as session:
                rows = await queries.rules(session, None)
            if changes == self._changes:
                break
        found: dict[str, list[Rule]] = {}
        for row in rows:
            found.setdefault(row.org_id, []).append(as_rule(row))
        self._rules = {org_id: tuple(made) for org_id, made in found.items()}

    def _changed(self, happened: RulesChanged) -> None:
        self._changes += 1
        self._rules = {**self._rules, happened.org_id: happened.rules}
