"""An emergency stop as a plain value without SQL, so that the data path can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Scope = Literal["system", "organization"]


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop in force.

    Args:
        org_id: the organisation that stands still; `None` where the whole system does.
        by: the `subject` of the principal who pressed it.
    """

    id: str
    scope: Scope
    org_id: str | None
    reason: str
    by: str
    since: datetime

    def covers(self, org_id: str) -> bool:
        return self.org_id is None or self.org_id == org_id
