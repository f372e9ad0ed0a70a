"""How it stands with a call that a rule holds: a plain value without SQL, so that the data path can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of a call's approval.

    Args:
        expires_at: when the question, or the answer to it, holds no more.
        reason: of whoever denied it.
    """

    status: Literal["passes", "waiting", "denied"]
    approval_id: str
    expires_at: datetime
    reason: str | None = None
