"""Why a call passes or not, as callers see it: plain values. `gateway.mcp.why` finds them out."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import BaseModel, Field

from registry.identity.principal import Principal

Rule = Literal[
    "listed",
    "permission",
    "key_tools",
    "access_rule",
    "emergency_stop",
    "definition",
    "rate_limit",
    "approval",
    "budget",
]


class Step(BaseModel):
    """One rule of the chain, in the order in which a call meets them."""

    rule: Rule
    passes: bool | None = Field(description="null: it is judged at each call only.")
    detail: str


class Explanation(BaseModel):
    tool: str
    principal: str = Field(description="Whom it is about.")
    allowed: bool
    decided_by: Rule | None = Field(description="The rule that refuses; null where none does.")
    steps: list[Step] = Field(description="Up to the rule that refuses.")


class Explains(Protocol):
    async def explain(self, principal: Principal, tool: str) -> Explanation:
        """Go with a call of `tool`, by its name on `/mcp`, through the chain, without making it."""
        ...
