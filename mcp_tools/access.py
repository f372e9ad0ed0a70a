"""Tools for access rules: `access_rules_list`, `access_rules_create`, `access_rules_delete`; see `registry.access`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.access.service import MANAGE, READ, AccessService
from registry.access.views import AccessRuleDraft, AccessRulesView, AccessRuleView, rule_view
from registry.core.db import Database
from registry.identity.principal import Principal


class ListAccessRules(Arguments):
    pass


class CreateAccessRule(Arguments, AccessRuleDraft):
    before: str | None = Field(None, description="Id of the rule that it is put before; else it becomes the last.")


class OneAccessRule(Arguments):
    id: str = Field(description="Of the rule.")


class DeletedAccessRule(BaseModel):
    id: str
    deleted: bool = True


class AccessTools:
    def __init__(self, database: Database, access: AccessService) -> None:
        self._database = database
        self._access = access

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "access_rules_list",
                "List access rules",
                "List the rules that say who may use which tools, resources and prompts, in the order in which they "
                "decide.",
                READ,
                ListAccessRules,
                self._list,
                read_only=True,
            ),
            Tool(
                "access_rules_create",
                "Create an access rule",
                "Allow or deny a role, a team, a user, a key or anyone the use of tools, resources and prompts, by a "
                "pattern of their names or by a set that has them. The first rule that is about both decides; what no "
                "rule is about is left to permissions.",
                MANAGE,
                CreateAccessRule,
                self._create,
            ),
            Tool(
                "access_rules_delete",
                "Delete an access rule",
                "Delete an access rule.",
                MANAGE,
                OneAccessRule,
                self._delete,
                destructive=True,
            ),
        ]

    async def _list(self, principal: Principal, _wanted: ListAccessRules) -> AccessRulesView:
        async with self._database.reading() as session:
            found = await self._access.rules(session, principal)
            return AccessRulesView(rules=[rule_view(row) for row in found], total=len(found))

    async def _create(self, principal: Principal, wanted: CreateAccessRule) -> AccessRuleView:
        draft = AccessRuleDraft.model_validate(wanted.model_dump(exclude={"before"}))
        async with self._database.transaction() as session:
            return rule_view(await self._access.create(session, principal, draft, before=wanted.before))

    async def _delete(self, principal: Principal, wanted: OneAccessRule) -> DeletedAccessRule:
        async with self._database.transaction() as session:
            return DeletedAccessRule(id=(await self._access.remove(session, principal, wanted.id)).id)
