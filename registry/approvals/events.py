"""What is told of approvals."""

from __future__ import annotations

from dataclasses import dataclass

from registry.approvals.rule import Rule
from registry.core.events import Event


@dataclass(frozen=True, slots=True)
class RulesChanged(Event):
    """An organisation's rules are these now."""

    org_id: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class ApprovalAsked(Event):
    """A call waits for a person."""

    org_id: str
    approval_id: str
    tool: str
    subject: str


@dataclass(frozen=True, slots=True)
class ApprovalDecided(Event):
    org_id: str
    approval_id: str
    approved: bool
    by: str
