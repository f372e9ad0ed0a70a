"""Access rules in the Registry API: who may use which tools, resources and prompts. Our own routes."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.access.service import AccessService
from registry.access.views import AccessRuleDraft, AccessRulesView, AccessRuleView, rule_view

ACCESS = Limit("access", 100, 60, "user")


class NewAccessRule(AccessRuleDraft):
    before: str | None = Field(None, description="Id of the rule that it is put before; else it becomes the last.")


class DeletedAccessRule(BaseModel):
    id: str
    message: str = "Access rule deleted successfully"


def router(front: Front, access: AccessService) -> APIRouter:
    api = front.router(tags=["Access"], limit=ACCESS)

    @api.get("/v1/access/rules")
    async def list_access_rules(session: Session, caller: Caller) -> AccessRulesView:
        found = await access.rules(session, caller)
        return AccessRulesView(rules=[rule_view(row) for row in found], total=len(found))

    @api.post("/v1/access/rules", status_code=201)
    async def create_access_rule(body: NewAccessRule, session: Session, caller: Caller) -> AccessRuleView:
        draft = AccessRuleDraft.model_validate(body.model_dump(exclude={"before"}))
        return rule_view(await access.create(session, caller, draft, before=body.before))

    @api.delete("/v1/access/rules/{rule_id}")
    async def delete_access_rule(rule_id: str, session: Session, caller: Caller) -> DeletedAccessRule:
        return DeletedAccessRule(id=(await access.remove(session, caller, rule_id)).id)

    return api
