"""Registry API, "Organizations"."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api.shared.route import Caller, Front, Session
from registry.identity.models import Organization, User
from registry.identity.service import IdentityService


class OrganizationAnswer(BaseModel):
    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    settings: dict[str, Any]


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


def router(front: Front, identity: IdentityService) -> APIRouter:
    api = front.router(tags=["Organizations"])

    @api.get("/v1/organizations")
    async def list_organizations(session: Session, caller: Caller) -> OrganizationsAnswer:
        found = await identity.organizations(session, caller)
        return OrganizationsAnswer(organizations=[OrganizationAnswer(**_fields(one)) for one in found])

    @api.get("/v1/organizations/{org_id}")
    async def get_organization(org_id: str, session: Session, caller: Caller) -> OrganizationWithUsersAnswer:
        found, users = await identity.organization(session, caller, org_id)
        return OrganizationWithUsersAnswer(**_fields(found), users=[_member(user) for user in users])

    return api


def _fields(found: Organization) -> dict[str, Any]:
    return {name: getattr(found, name) for name in OrganizationAnswer.model_fields}


def _member(user: User) -> MemberAnswer:
    return MemberAnswer(id=user.id, email=user.email, name=user.name, roles=[user.role], created_at=user.created_at)
