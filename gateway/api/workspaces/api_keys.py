"""API keys in the Workspaces API. Source: `octoprox.md`, API Keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.shared.route import Caller, Front, Session
from gateway.api.shared.users import KeyView, key_view
from gateway.api.workspaces.shared import PER_PAGE, Meta, Page, PerPage, UserId, Wrapped, WrappedPage, documents_router
from registry.core.errors import Forbidden
from registry.identity.directory import NOT_YOURS
from registry.identity.permissions import OTHERS
from registry.identity.service import KEY_MARK, IdentityService


class CreateKeyBody(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    user_id: Annotated[str, Field(max_length=64)] | None = None
    nexusgate_token_id: Annotated[str, Field(max_length=200)] | None = None


class KeysData(BaseModel):
    api_keys: list[KeyView]


class NewKeyData(BaseModel):
    id: int
    api_key: str
    name: str
    prefix: str
    warning: str = "This key will only be shown once. Store it securely."


def router(front: Front, identity: IdentityService) -> APIRouter:
    api = documents_router(front, "Workspaces API: keys")

    @api.get("/api/v1/api-keys")
    async def list_keys(
        session: Session, caller: Caller, page: Page = 1, per_page: PerPage = PER_PAGE, user_id: UserId | None = None
    ) -> WrappedPage[KeysData]:
        if user_id is not None and user_id != caller.user_id and not caller.may(OTHERS):
            raise Forbidden(NOT_YOURS)
        offset = (page - 1) * per_page
        found, total = await identity.keys(session, caller, user_id=user_id, limit=per_page, offset=offset)
        keys = KeysData(api_keys=[key_view(key) for key in found])
        return WrappedPage(data=keys, meta=Meta(page=page, per_page=per_page, total=total))

    @api.post("/api/v1/api-keys", status_code=201)
    async def create_key(body: CreateKeyBody, session: Session, caller: Caller) -> Wrapped[NewKeyData]:
        if body.user_id is not None and body.user_id != caller.user_id and not caller.may(OTHERS):
            raise Forbidden(NOT_YOURS)
        made = await identity.create_key(
            session, caller, name=body.name, user_id=body.user_id, nexusgate_token_id=body.nexusgate_token_id
        )
        record = made.record
        return Wrapped(
            data=NewKeyData(id=record.id, api_key=made.text, name=record.name, prefix=KEY_MARK + record.prefix)
        )

    @api.delete("/api/v1/api-keys/{key_id}", status_code=204)
    async def revoke_key(key_id: int, session: Session, caller: Caller) -> None:
        await identity.revoke_key(session, caller, key_id)

    return api
