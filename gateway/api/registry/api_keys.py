"""Our own routes for API keys, beside the documents'."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field

from gateway.api.shared.paging import PageOffset, ShortPageLimit
from gateway.api.shared.route import Caller, Front, Session
from registry.identity.models import ApiKey
from registry.identity.service import KEY_MARK, IdentityService


class CreateBody(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    user_id: Annotated[str, Field(max_length=64)] | None = None
    permissions: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)] | None = None
    tools: list[str] | None = None
    expires_at: AwareDatetime | None = None


class KeyAnswer(BaseModel):
    id: int
    name: str
    prefix: str
    user_id: str
    permissions: list[str] | None
    tools: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewKeyAnswer(KeyAnswer):
    api_key: str
    warning: str = "This key will only be shown once. Store it securely."


class KeysAnswer(BaseModel):
    api_keys: list[KeyAnswer]
    total: int
    limit: int
    offset: int


def router(front: Front, identity: IdentityService) -> APIRouter:
    api = front.router(tags=["API keys"])

    @api.post("/v1/api-keys", status_code=201)
    async def create_api_key(body: CreateBody, session: Session, caller: Caller) -> NewKeyAnswer:
        issued = await identity.create_key(
            session,
            caller,
            name=body.name,
            user_id=body.user_id,
            permissions=body.permissions,
            tools=body.tools,
            expires_at=body.expires_at,
        )
        return NewKeyAnswer(**_key(issued.record).model_dump(), api_key=issued.text)

    @api.get("/v1/api-keys")
    async def list_api_keys(
        session: Session,
        caller: Caller,
        limit: ShortPageLimit = 50,
        offset: PageOffset = 0,
    ) -> KeysAnswer:
        found, total = await identity.keys(session, caller, limit=limit, offset=offset)
        return KeysAnswer(api_keys=[_key(key) for key in found], total=total, limit=limit, offset=offset)

    @api.delete("/v1/api-keys/{key_id}", status_code=204)
    async def revoke_api_key(key_id: int, session: Session, caller: Caller) -> None:
        await identity.revoke_key(session, caller, key_id)

    return api


def _key(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        name=key.name,
        prefix=KEY_MARK + key.prefix,
        user_id=key.user_id,
        permissions=key.permissions,
        tools=key.tools,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )
