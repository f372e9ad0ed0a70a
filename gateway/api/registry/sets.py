"""Sets in the Registry API: create, list, get, update, delete. Our own routes (DESIGN §3)."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.sets.members import Members
from registry.sets.models import ToolSet
from registry.sets.service import Draft, SetChanges, SetService
from registry.sets.views import SetDetail, SetView, set_detail, set_view

SETS = Limit("sets", 100, 60, "user")


class CreateBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    slug: str
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    public: bool = False
    members: Members


class UpdateBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    public: bool | None = None
    members: Members | None = None


class SetsAnswer(BaseModel):
    sets: list[SetView]
    total: int
    limit: int
    offset: int


class DeletedAnswer(BaseModel):
    message: str = "Set deleted successfully"
    slug: str


def router(front: Front, sets: SetService) -> APIRouter:
    api = front.router(tags=["Sets"], limit=SETS)

    async def shown(session: Session, caller: Caller, made: ToolSet) -> SetDetail:
        return set_detail(made, await sets.contents(session, caller, made))

    @api.post("/v1/sets", status_code=201)
    async def create_set(body: CreateBody, session: Session, caller: Caller) -> SetDetail:
        draft = Draft(body.slug, tuple(body.members), body.name, body.description, body.public)
        return await shown(session, caller, await sets.create(session, caller, draft))

    @api.get("/v1/sets")
    async def list_sets(
        session: Session,
        caller: Caller,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> SetsAnswer:
        found, total = await sets.list(session, caller, limit=limit, offset=offset)
        return SetsAnswer(sets=[set_view(row) for row in found], total=total, limit=limit, offset=offset)

    @api.get("/v1/sets/{slug}")
    async def get_set(slug: str, session: Session, caller: Caller) -> SetDetail:
        return await shown(session, caller, await sets.get(session, caller, slug))

    @api.put("/v1/sets/{slug}")
    async def update_set(slug: str, body: UpdateBody, session: Session, caller: Caller) -> SetDetail:
        members = None if body.members is None else tuple(body.members)
        changes = SetChanges(body.name, body.description, body.public, members)
        return await shown(session, caller, await sets.update(session, caller, slug, changes))

    @api.delete("/v1/sets/{slug}")
    async def delete_set(slug: str, session: Session, caller: Caller) -> DeletedAnswer:
        return DeletedAnswer(slug=(await sets.remove(session, caller, slug)).slug)

    return api
