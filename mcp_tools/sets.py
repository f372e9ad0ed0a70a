"""Tools for sets: `sets_list`, `sets_get`, `sets_create`, `sets_update`, `sets_delete`; see `registry.sets`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.sets.members import Members
from registry.sets.service import Draft, SetChanges, SetService
from registry.sets.views import SetDetail, SetView, set_detail, set_view

_MEMBERS = "The servers in the set, each with its chosen tools, resources and prompts; a kind left out is taken whole."
_PUBLIC = "Answer anybody, without a credential; needs the permission gateway:operate."


class ListSets(Arguments):
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0)


class SetPage(BaseModel):
    sets: list[SetView]
    total: int
    limit: int
    offset: int


class OneSet(Arguments):
    slug: str = Field(description="Slug of the set.")


class CreateSet(Arguments):
    slug: str = Field(description="Names the set's address, /sets/{slug}/mcp.")
    members: Members = Field(description=_MEMBERS)
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000, description="Shown to clients as instructions.")
    public: bool = Field(False, description=_PUBLIC)


class UpdateSet(OneSet):
    members: Members | None = Field(None, description=_MEMBERS)
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000, description="Shown to clients as instructions.")
    public: bool | None = Field(None, description=_PUBLIC)


class DeletedSet(BaseModel):
    slug: str
    deleted: bool = True


class SetTools:
    """The tools' bodies: each is one transaction around the service."""

    def __init__(self, database: Database, sets: SetService) -> None:
        self._database = database
        self._sets = sets

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "sets_list",
                "List sets",
                "List the curated sets of tools, each at an MCP address of its own.",
                "sets:read",
                ListSets,
                self._list,
                read_only=True,
            ),
            Tool(
                "sets_get",
                "Show a set",
                "Show one set: what it is made of, what it offers now under which names, and what is missing.",
                "sets:read",
                OneSet,
                self._get,
                read_only=True,
            ),
            Tool(
                "sets_create",
                "Create a set",
                "Create a set of chosen tools, resources and prompts of registered servers. Tools can be renamed and "
                "described anew, and their parameters hidden, fixed or given defaults.",
                "sets:manage",
                CreateSet,
                self._create,
            ),
            Tool(
                "sets_update",
                "Change a set",
                "Change a set. What is left out stays as it is; members are replaced as a whole.",
                "sets:manage",
                UpdateSet,
                self._update,
                idempotent=True,
            ),
            Tool(
                "sets_delete",
                "Delete a set",
                "Delete a set. Its address answers no more; its servers stay as they are.",
                "sets:manage",
                OneSet,
                self._delete,
                destructive=True,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListSets) -> SetPage:
        async with self._database.reading() as session:
            rows, total = await self._sets.list(session, principal, limit=wanted.limit, offset=wanted.offset)
            views = [set_view(row) for row in rows]
        return SetPage(sets=views, total=total, limit=wanted.limit, offset=wanted.offset)

    async def _get(self, principal: Principal, wanted: OneSet) -> SetDetail:
        async with self._database.reading() as session:
            made = await self._sets.get(session, principal, wanted.slug)
            return set_detail(made, await self._sets.contents(session, principal, made))

    async def _create(self, principal: Principal, wanted: CreateSet) -> SetDetail:
        draft = Draft(wanted.slug, tuple(wanted.members), wanted.name, wanted.description, wanted.public)
        async with self._database.transaction() as session:
            made = await self._sets.create(session, principal, draft)
            return set_detail(made, await self._sets.contents(session, principal, made))

    async def _update(self, principal: Principal, wanted: UpdateSet) -> SetDetail:
        members = None if wanted.members is None else tuple(wanted.members)
        changes = SetChanges(wanted.name, wanted.description, wanted.public, members)
        async with self._database.transaction() as session:
            made = await self._sets.update(session, principal, wanted.slug, changes)
            return set_detail(made, await self._sets.contents(session, principal, made))

    async def _delete(self, principal: Principal, wanted: OneSet) -> DeletedSet:
        async with self._database.transaction() as session:
            return DeletedSet(slug=(await self._sets.remove(session, principal, wanted.slug)).slug)
