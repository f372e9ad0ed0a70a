"""Our own routes beside the Registry API's authentication: one's user, one's session, one's second factor."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.registry.auth import LIMIT
from gateway.api.shared.route import Caller, Front, Session, public
from gateway.auth import proof
from registry.identity.errors import RefreshRefused
from registry.identity.models import LoginSession
from registry.identity.principal import Principal
from registry.identity.service import IdentityService
from registry.identity.stays import Stays
from registry.oauth.models import OAuthGrant
from registry.oauth.service import OAuthService

Code = Annotated[str, Field(min_length=1, max_length=64)]


class RefreshBody(BaseModel):
    refresh_token: Annotated[str, Field(min_length=1, max_length=4096)]


class CodeBody(BaseModel):
    code: Code


class RefreshAnswer(BaseModel):
    access_token: str
    token_type: str = "bearer"
    expires_in: int
    refresh_token: str


class MeAnswer(BaseModel):
    """The document's user model."""

    id: str
    email: str
    name: str
    given_name: str | None
    family_name: str | None
    picture: str | None
    email_verified: bool
    org_id: str
    org_name: str
    roles: list[str]
    permissions: list[str]
    created_at: datetime
    last_login_at: datetime | None


class MessageAnswer(BaseModel):
    message: str


class EnrolmentAnswer(BaseModel):
    secret: str
    uri: str


class GrantAnswer(BaseModel):
    """What one has allowed an application; `address` is the path that it may use."""

    id: str
    client_id: str
    client_name: str
    scopes: list[str]
    address: str
    created_at: datetime
    expires_at: datetime


class GrantsAnswer(BaseModel):
    grants: list[GrantAnswer]


class SessionAnswer(BaseModel):
    """A login session of one's own.

    Args:
        current: this request's.
    """

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool


class SessionsAnswer(BaseModel):
    sessions: list[SessionAnswer]


class RecoveryCodesAnswer(BaseModel):
    recovery_codes: list[str]
    warning: str = "These codes will only be shown once. Store them securely."


def public_router(front: Front, identity: IdentityService) -> APIRouter:
    """What is asked without a credential, and limited like a login."""
    api = front.router(tags=["Authentication"], limit=LIMIT)

    @api.post("/v1/auth/refresh")
    @public
    async def refresh(body: RefreshBody) -> RefreshAnswer:
        # What a token that was used before brings about must be committed although the request is refused.
        async with front.database.transaction() as session:
            made = await identity.refresh(session, body.refresh_token)
        if made is None:
            raise RefreshRefused("The refresh token is not valid, or was used before: log in again.")
        return RefreshAnswer(
            access_token=made.access_token, expires_in=made.expires_in, refresh_token=made.refresh_token
        )

    return api


def router(front: Front, identity: IdentityService, oauth: OAuthService, stays: Stays) -> APIRouter:
    api = front.router(tags=["Authentication"])
    _add_grants(api, oauth)
    _add_sessions(api, stays)

    @api.post("/v1/auth/logout")
    async def logout(session: Session, caller: Caller) -> MessageAnswer:
        await identity.close_session(session, caller)
        return MessageAnswer(message="Logged out")

    @api.get("/v1/auth/me")
    async def me(session: Session, caller: Caller) -> MeAnswer:
        user, organization = await identity.myself(session, caller)
        return MeAnswer(
            **{name: getattr(user, name) for name in MeAnswer.model_fields if hasattr(user, name)},
            org_name=organization.name,
            roles=[user.role],
            permissions=sorted(caller.permissions),
        )

    @api.post("/v1/auth/second-factor", status_code=201)
    async def enrol_second_factor(session: Session, caller: Caller) -> EnrolmentAnswer:
        made = await identity.second_factors.enrol(session, caller)
        return EnrolmentAnswer(secret=made.secret, uri=made.uri)

    @api.post("/v1/auth/second-factor/confirm")
    async def confirm_second_factor(body: CodeBody, session: Session, caller: Caller) -> RecoveryCodesAnswer:
        return RecoveryCodesAnswer(recovery_codes=await identity.second_factors.confirm(session, caller, body.code))

    @api.post("/v1/auth/second-factor/remove")
    async def remove_second_factor(body: CodeBody, session: Session, caller: Caller) -> MessageAnswer:
        if caller.user_id is not None:
            await proof.by_code(front.database, identity, caller.user_id, body.code)
        await identity.second_factors.remove(session, caller)
        return MessageAnswer(message="The second factor was removed")

    return api


def _add_grants(api: APIRouter, oauth: OAuthService) -> None:
    @api.get("/v1/auth/grants")
    async def list_grants(session: Session, caller: Caller) -> GrantsAnswer:
        return GrantsAnswer(grants=[_grant(one) for one in await oauth.grants(session, caller)])

    @api.delete("/v1/auth/grants/{grant_id}", status_code=204)
    async def end_grant(grant_id: str, session: Session, caller: Caller) -> None:
        await oauth.end_grant(session, caller, grant_id)


def _add_sessions(api: APIRouter, stays: Stays) -> None:
    @api.get("/v1/auth/sessions")
    async def list_sessions(session: Session, caller: Caller) -> SessionsAnswer:
        found = await stays.list(session, caller)
        return SessionsAnswer(sessions=[_session(one, caller) for one in found])

    @api.delete("/v1/auth/sessions/{session_id}", status_code=204)
    async def end_session(session_id: str, session: Session, caller: Caller) -> None:
        await stays.end(session, caller, session_id)


def _session(found: LoginSession, caller: Principal) -> SessionAnswer:
    return SessionAnswer(
        id=found.id,
        created_at=found.created_at,
        last_seen_at=found.last_seen_at,
        expires_at=found.expires_at,
        current=found.id == caller.session_id,
    )


def _grant(grant: OAuthGrant) -> GrantAnswer:
    return GrantAnswer(
        id=grant.id,
        client_id=grant.client_id,
        client_name=grant.client_name,
        scopes=grant.scopes,
        address=grant.audience,
        created_at=grant.created_at,
        expires_at=grant.expires_at,
    )
