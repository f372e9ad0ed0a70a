"""Events of budgets: the desk of each process follows changes, realtime and notifications tell people of alerts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class LimitsChanged(Event):
    """A limit was added, changed, paused, resumed or removed."""

    org_id: str


@dataclass(frozen=True, slots=True)
class BudgetAlert(Event):
    """A limit passed its threshold, or was reached; published once a period for each of the two.

    Args:
        level: `critical` where the limit itself was reached.
        current, limit: in the limit's unit.
    """

    org_id: str
    limit_id: str
    name: str
    level: Literal["warning", "critical"]
    scope_type: str
    scope_id: str | None
    unit: str
    period: str
    action: str
    current: float
    limit: float
    resets_at: datetime

    @property
    def percentage(self) -> float:
        """As a fraction, like the documents' own."""
        return self.current / self.limit if self.limit else 1.0

    @property
    def message(self) -> str:
        return f"Budget limit {self.name!r} at {self.percentage:.0%}: {self.current:g} of {self.limit:g} {self.unit}"
