"""Rules and approvals as callers give and see them. REST and MCP tools show the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.approvals.models import ApprovalRule
from registry.approvals.rule import Ask, Compare, Condition, Rule

Status = Literal["waiting", "approved", "denied", "used", "expired"]


class ConditionView(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str = Field(max_length=500, description="Like payment.amount, items[0].name or items[*].price.")
    compare: Compare
    value: Any = Field(None, description="A pattern for matches, a number for gt, gte, lt and lte.")


class RuleDraft(BaseModel):
    """A call waits where all that is given holds."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    tool: str = Field("*", min_length=1, max_length=500, description="Pattern of names on /mcp, like files__*.")
    destructive: bool = Field(False, description="Only tools that may destroy something.")
    argument: ConditionView | None = None
    min_price_usd: float | None = Field(None, ge=0, le=1_000_000)
    ask: Ask = Field("caller", description="caller: the person at the client, where it can ask; inbox: another one.")
    expires_seconds: int = Field(900, ge=10, le=7 * 24 * 3600)


class RuleView(RuleDraft):
    id: str
    created_at: datetime


class RulesView(BaseModel):
    rules: list[RuleView]
    total: int


class ApprovalView(BaseModel):
    id: str
    status: Status
    rule: str
    tool: str
    subject: str = Field(description="Who called.")
    user_id: str | None
    arguments: str = Field(description="Canonical JSON; the beginning of it, where it is long.")
    arguments_bytes: int
    digest: str
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decided_over: str | None
    reason: str | None
    used_at: datetime | None


class ApprovalsView(BaseModel):
    approvals: list[ApprovalView]
    total: int
    limit: int
    offset: int


def as_rule(row: ApprovalRule) -> Rule:
    """The stored rule, ready to be applied."""
    condition = ConditionView.model_validate(row.argument) if row.argument is not None else None
    draft = RuleDraft.model_validate(
        {name: getattr(row, name) for name in RuleDraft.model_fields if name != "argument"} | {"argument": condition}
    )
    return Rule(
        id=row.id,
        org_id=row.org_id,
        name=draft.name,
        tool=draft.tool,
        destructive=draft.destructive,
        argument=Condition(condition.path, condition.compare, condition.value) if condition is not None else None,
        min_price_usd=draft.min_price_usd,
        ask=draft.ask,
        expires_seconds=draft.expires_seconds,
    )


def rule_view(row: ApprovalRule) -> RuleView:
    return RuleView.model_validate({name: getattr(row, name) for name in RuleView.model_fields})
