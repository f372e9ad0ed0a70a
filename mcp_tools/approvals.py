"""Tools for approvals: `approvals_list`, `approvals_approve`, `approvals_rules_create`, …; see `registry.approvals`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.approvals.service import DECIDE, MANAGE, READ, ApprovalService
from registry.approvals.views import ApprovalsView, ApprovalView, RuleDraft, RulesView, RuleView, Status, rule_view
from registry.core.db import Database
from registry.identity.principal import Principal


class ListApprovals(Arguments):
    status: Status | Literal["all"] = "waiting"
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0)


class Decide(Arguments):
    id: str = Field(description="Of the approval.")
    reason: str | None = Field(None, max_length=2000, description="Told to the caller where it is denied.")


class ListRules(Arguments):
    pass


class CreateRule(Arguments, RuleDraft):
    pass


class OneRule(Arguments):
    id: str = Field(description="Of the rule.")


class DeletedRule(BaseModel):
    id: str
    deleted: bool = True


class ApprovalTools:
    def __init__(self, database: Database, approvals: ApprovalService) -> None:
        self._database = database
        self._approvals = approvals

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "approvals_list",
                "List calls that wait",
                "List calls that wait for a person, with their arguments.",
                READ,
                ListApprovals,
                self._list,
                read_only=True,
            ),
            Tool(
                "approvals_approve",
                "Approve a call",
                "Let a call pass that waits: once, with the arguments it was asked for. Never one's own.",
                DECIDE,
                Decide,
                self._approve,
            ),
            Tool(
                "approvals_deny",
                "Deny a call",
                "Refuse a call that waits.",
                DECIDE,
                Decide,
                self._deny,
            ),
            Tool(
                "approvals_rules_list",
                "List approval rules",
                "List the rules that say which calls wait for a person.",
                READ,
                ListRules,
                self._rules,
                read_only=True,
            ),
            Tool(
                "approvals_rules_create",
                "Create an approval rule",
                "Make calls wait for a person: by the tool's name, because it may destroy something, by an argument or "
                "by its price. All that is given must hold.",
                MANAGE,
                CreateRule,
                self._create_rule,
            ),
            Tool(
                "approvals_rules_delete",
                "Delete an approval rule",
                "Delete an approval rule. What waits because of it goes on waiting.",
                MANAGE,
                OneRule,
                self._delete_rule,
                destructive=True,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListApprovals) -> ApprovalsView:
        status = None if wanted.status == "all" else wanted.status
        async with self._database.reading() as session:
            return await self._approvals.list(session, principal, status, limit=wanted.limit, offset=wanted.offset)

    async def _approve(self, principal: Principal, wanted: Decide) -> ApprovalView:
        return await self._decide(principal, wanted, approve=True)

    async def _deny(self, principal: Principal, wanted: Decide) -> ApprovalView:
        return await self._decide(principal, wanted, approve=False)

    async def _decide(self, principal: Principal, wanted: Decide, *, approve: bool) -> ApprovalView:
        async with self._database.transaction() as session:
            made = await self._approvals.decide(session, principal, wanted.id, approve=approve, reason=wanted.reason)
            return self._approvals.view(made)

    async def _rules(self, principal: Principal, _wanted: ListRules) -> RulesView:
        async with self._database.reading() as session:
            found = await self._approvals.rules(session, principal)
            return RulesView(rules=[rule_view(row) for row in found], total=len(found))

    async def _create_rule(self, principal: Principal, wanted: CreateRule) -> RuleView:
        async with self._database.transaction() as session:
            return rule_view(await self._approvals.create_rule(session, principal, wanted))

    async def _delete_rule(self, principal: Principal, wanted: OneRule) -> DeletedRule:
        async with self._database.transaction() as session:
            return DeletedRule(id=(await self._approvals.delete_rule(session, principal, wanted.id)).id)
