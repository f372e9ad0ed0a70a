"""Access rules as callers give and see them. REST and MCP tools show the same."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from registry.access.models import AccessRuleRecord
from registry.access.rule import AccessRule, Effect, What, Who


class AccessRuleDraft(BaseModel):
    """Who may, or may not, use what. The first rule, in order, that is about both decides."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255, description="Told by `why`.")
    effect: Effect
    who: Who = "anyone"
    who_id: str | None = Field(
        None, max_length=64, description="Name of a role, or id of a team, user or key; none for anyone."
    )
    what: What = "any"
    pattern: str | None = Field(
        None, min_length=1, max_length=2000, description="Of names on /mcp, like files__* or files__file:///etc/*."
    )
    set: str | None = Field(None, max_length=32, description="Slug of a set, instead of a pattern: all that it has.")


class AccessRuleView(AccessRuleDraft):
    id: str
    place: int
    created_at: datetime


class AccessRulesView(BaseModel):
    rules: list[AccessRuleView] = Field(description="In the order in which they decide.")
    total: int


def as_rule(row: AccessRuleRecord) -> AccessRule:
    """The stored rule, ready to be applied."""
    draft = rule_view(row)
    return AccessRule(draft.id, draft.name, draft.effect, draft.who, draft.who_id, draft.what, draft.pattern, draft.set)


def rule_view(row: AccessRuleRecord) -> AccessRuleView:
    fields = {name: getattr(row, name) for name in AccessRuleView.model_fields if name != "set"}
    return AccessRuleView.model_validate({**fields, "set": row.set_slug})
