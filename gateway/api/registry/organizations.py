"""Registry API, "Organizations"; changing one is ours."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.route import Caller, Front, Session
from registry.identity.models import Organization, User
from registry.identity.organizations import Features, OrganizationService, OrganizationSettings, settings_of


class OrganizationAnswer(BaseModel):
    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    settings: OrganizationSettings


class MemberAnswer(BaseModel):
    id: str
    email: str
    name: str
    roles: list[str]
    created_at: datetime


class OrganizationsAnswer(BaseModel):
    organizations: list[OrganizationAnswer]


class OrganizationWithUsersAnswer(OrganizationAnswer):
    users: list[MemberAnswer]


class SettingsBody(BaseModel):
    """Settings that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    max_servers: int | None = Field(None, ge=0, le=1_000_000)
    allowed_environments: list[Literal["development", "staging", "production"]] | None = Field(None, max_length=3)
    features: Features | None = None


class UpdateBody(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(max_length=10_000)] | None = None
    settings: SettingsBody | None = None


def router(front: Front, organizations: OrganizationService) -> APIRouter:
    api = front.router(tags=["Organizations"])

    @api.get("/v1/organizations")
    async def list_organizations(session: Session, caller: Caller) -> OrganizationsAnswer:
        found = await organizations.list(session, caller)
        return OrganizationsAnswer(organizations=[_answer(one) for one in found])

    @api.get("/v1/organizations/{org_id}")
    async def get_organization(org_id: str, session: Session, caller: Caller) -> OrganizationWithUsersAnswer:
        found, users = await organizations.get(session, caller, org_id)
        return OrganizationWithUsersAnswer(**_answer(found).model_dump(), users=[_member(user) for user in users])

    @api.put("/v1/organizations/{org_id}")
    async def update_organization(
        org_id: str, body: UpdateBody, session: Session, caller: Caller
    ) -> OrganizationAnswer:
        settings = body.settings.model_dump(exclude_none=True) if body.settings else None
        changed = await organizations.update(
            session, caller, org_id, name=body.name, description=body.description, settings=settings
        )
        return _answer(changed)

    return api


def _answer(found: Organization) -> OrganizationAnswer:
    return OrganizationAnswer(
        id=found.id,
        name=found.name,
        description=found.description,
        created_at=found.created_at,
        updated_at=found.updated_at,
        settings=settings_of(found),
    )


def _member(user: User) -> MemberAnswer:
    return MemberAnswer(id=user.id, email=user.email, name=user.name, roles=[user.role], created_at=user.created_at)
