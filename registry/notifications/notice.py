"""What people are told: a plain value, which any feature can make, and its text."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Event = Literal["alert.raised", "alert.resolved", "test"]

_MARKS = {"alert.raised": "raised", "alert.resolved": "resolved", "test": "test"}


class Notice(BaseModel):
    """One notice.

    Args:
        subject_id: of the alert; what was raised and what was resolved have the same.
        at: ISO 8601.
        details: facts for programs.
    """

    event: Event
    subject_id: str
    type: str
    severity: str
    message: str
    server_id: str
    server_name: str
    at: str
    details: dict[str, Any] = {}

    @property
    def title(self) -> str:
        return f"[{self.severity}] {self.server_name}: {self.type} {_MARKS[self.event]}"

    @property
    def text(self) -> str:
        return f"{self.message}\n\nServer: {self.server_name} ({self.server_id})\nTime: {self.at}"
