"""Tools for organisations: `organizations_list`, `organizations_get`, `organizations_update`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.models import Organization
from registry.identity.organizations import (
    MANAGE,
    READ,
    Features,
    OrganizationService,
    OrganizationSettings,
    settings_of,
)
from registry.identity.principal import Principal
from registry.servers.service import Environment


class ListOrganizations(Arguments):
    pass


class GetOrganization(Arguments):
    id: str = Field(description="Of the organisation.")


class UpdateOrganization(GetOrganization):
    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=10_000)
    max_servers: int | None = Field(None, ge=0, le=1_000_000)
    allowed_environments: list[Environment] | None = Field(None, max_length=3)
    features: Features | None = None


class OrganizationView(BaseModel):
    id: str
    name: str
    description: str
    created_at: datetime
    settings: OrganizationSettings


class OrganizationsView(BaseModel):
    organizations: list[OrganizationView]


class MemberView(BaseModel):
    id: str
    email: str
    name: str
    roles: list[str]


class OrganizationWithUsers(OrganizationView):
    users: list[MemberView]


class OrganizationTools:
    def __init__(self, database: Database, organizations: OrganizationService) -> None:
        self._database = database
        self._organizations = organizations

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "organizations_list",
                "List organisations",
                "List the organisations that you can see, with what they allow.",
                READ,
                ListOrganizations,
                self._list,
                read_only=True,
            ),
            Tool(
                "organizations_get",
                "Show an organisation",
                "Show an organisation with its users.",
                READ,
                GetOrganization,
                self._get,
                read_only=True,
            ),
            Tool(
                "organizations_update",
                "Change an organisation",
                "Change an organisation's name and what it allows. What is left out stays as it is.",
                MANAGE,
                UpdateOrganization,
                self._update,
                idempotent=True,
            ),
        ]

    async def _list(self, principal: Principal, _wanted: ListOrganizations) -> OrganizationsView:
        async with self._database.reading() as session:
            found = await self._organizations.list(session, principal)
            return OrganizationsView(organizations=[_view(one) for one in found])

    async def _get(self, principal: Principal, wanted: GetOrganization) -> OrganizationWithUsers:
        async with self._database.reading() as session:
            found, users = await self._organizations.get(session, principal, wanted.id)
            members = [MemberView(id=u.id, email=u.email, name=u.name, roles=[u.role]) for u in users]
            return OrganizationWithUsers(**_view(found).model_dump(), users=members)

    async def _update(self, principal: Principal, wanted: UpdateOrganization) -> OrganizationView:
        settings = wanted.model_dump(include={"max_servers", "allowed_environments", "features"}, exclude_none=True)
        async with self._database.transaction() as session:
            changed = await self._organizations.update(
                session, principal, wanted.id, name=wanted.name, description=wanted.description, settings=settings
            )
            return _view(changed)


def _view(found: Organization) -> OrganizationView:
    return OrganizationView(
        id=found.id,
        name=found.name,
        description=found.description,
        created_at=found.created_at,
        settings=settings_of(found),
    )
