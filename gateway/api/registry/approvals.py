"""Approvals in the Registry API: calls that wait for a person, and the rules that make them wait. Our own routes."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.approvals.service import ApprovalService
from registry.approvals.views import ApprovalsView, ApprovalView, RuleDraft, RulesView, RuleView, Status, rule_view

APPROVALS = Limit("approvals", 100, 60, "user")


class DecisionBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=2000)


class DeletedAnswer(BaseModel):
    id: str
    message: str = "Approval rule deleted successfully"


def router(front: Front, approvals: ApprovalService) -> APIRouter:
    api = front.router(tags=["Approvals"], limit=APPROVALS)

    @api.get("/v1/approvals")
    async def list_approvals(
        session: Session,
        caller: Caller,
        status: Status | Literal["all"] = "waiting",
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> ApprovalsView:
        wanted = None if status == "all" else status
        return await approvals.list(session, caller, wanted, limit=limit, offset=offset)

    @api.post("/v1/approvals/{approval_id}/approve")
    async def approve_call(
        approval_id: str, session: Session, caller: Caller, body: DecisionBody | None = None
    ) -> ApprovalView:
        reason = body.reason if body else None
        return approvals.view(await approvals.decide(session, caller, approval_id, approve=True, reason=reason))

    @api.post("/v1/approvals/{approval_id}/deny")
    async def deny_call(
        approval_id: str, session: Session, caller: Caller, body: DecisionBody | None = None
    ) -> ApprovalView:
        reason = body.reason if body else None
        return approvals.view(await approvals.decide(session, caller, approval_id, approve=False, reason=reason))

    @api.get("/v1/approvals/rules")
    async def list_rules(session: Session, caller: Caller) -> RulesView:
        found = await approvals.rules(session, caller)
        return RulesView(rules=[rule_view(row) for row in found], total=len(found))

    @api.post("/v1/approvals/rules", status_code=201)
    async def create_rule(body: RuleDraft, session: Session, caller: Caller) -> RuleView:
        return rule_view(await approvals.create_rule(session, caller, body))

    @api.delete("/v1/approvals/rules/{rule_id}")
    async def delete_rule(rule_id: str, session: Session, caller: Caller) -> DeletedAnswer:
        return DeletedAnswer(id=(await approvals.delete_rule(session, caller, rule_id)).id)

    return api
