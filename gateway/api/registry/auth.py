"""Registry API, "Traditional Authentication": login, validation of sessions and keys, and the permission check."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, public
from gateway.auth import proof
from gateway.auth.authenticator import Authenticator
from registry.core.errors import Unauthenticated
from registry.identity.principal import Principal
from registry.identity.service import KEY_MARK, SESSION_MARK, IdentityService

LIMIT = Limit("authentication", 10, 60, per="address")


class LoginBody(BaseModel):
    email: Annotated[str, Field(min_length=1, max_length=320)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]
    code: Annotated[str, Field(max_length=64)] | None = None


class SessionBody(BaseModel):
    session_id: Annotated[str, Field(max_length=4096)]


class ApiKeyBody(BaseModel):
    api_key: Annotated[str, Field(max_length=4096)]


class PermissionsBody(BaseModel):
    permissions: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)]


class UserAnswer(BaseModel):
    user_id: str | None
    org_id: str
    email: str | None
    roles: list[str]


class LoginAnswer(BaseModel):
    access_token: str
    token_type: str = "bearer"
    session_id: str
    refresh_token: str
    expires_in: int
    user: UserAnswer


class ValidAnswer(BaseModel):
    valid: bool
    user: UserAnswer | None = None


class PermissionsAnswer(BaseModel):
    has_permissions: bool
    missing_permissions: list[str]


def router(front: Front, identity: IdentityService) -> APIRouter:
    api = front.router(tags=["Authentication"], limit=LIMIT)

    @api.post("/v1/auth/login")
    @public
    async def login(body: LoginBody) -> LoginAnswer:
        user_id = await proof.by_password(front.database, identity, body.email, body.password, body.code)
        async with front.database.transaction() as session:
            made = await identity.open_session(session, user_id)
        return LoginAnswer(
            access_token=made.access_token,
            session_id=made.session_id,
            refresh_token=made.refresh_token,
            expires_in=made.expires_in,
            user=_user(made.principal),
        )

    @api.post("/v1/auth/validate", response_model_exclude_none=True)
    @public
    async def validate_session(body: SessionBody) -> ValidAnswer:
        return await _validity(front.authenticator, body.session_id, SESSION_MARK)

    @api.post("/v1/auth/api-key/validate", response_model_exclude_none=True)
    @public
    async def validate_api_key(body: ApiKeyBody) -> ValidAnswer:
        return await _validity(front.authenticator, body.api_key, KEY_MARK)

    @api.post("/v1/auth/permissions/check")
    async def check_permissions(body: PermissionsBody, caller: Caller) -> PermissionsAnswer:
        missing = [name for name in body.permissions if not caller.may(name)]
        return PermissionsAnswer(has_permissions=not missing, missing_permissions=missing)

    return api


async def _validity(authenticator: Authenticator, credential: str, mark: str) -> ValidAnswer:
    """Whether this is a valid credential of its kind; one of another kind is none."""
    if not credential.startswith(mark):
        return ValidAnswer(valid=False)
    try:
        principal = await authenticator.verify(credential.encode())
    except Unauthenticated:
        return ValidAnswer(valid=False)
    return ValidAnswer(valid=True, user=_user(principal))


def _user(principal: Principal) -> UserAnswer:
    return UserAnswer(user_id=principal.user_id, org_id=principal.org_id, email=principal.email, roles=[principal.role])
