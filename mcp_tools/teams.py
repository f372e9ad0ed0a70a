"""Tools for teams: `teams_list`, `teams_create`, `teams_put_member`, …; see `registry.teams`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.teams.service import MANAGE, READ, TeamService
from registry.teams.views import TeamDetail, TeamRole, TeamsView


class ListTeams(Arguments):
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0)


class OneTeam(Arguments):
    id: str = Field(description="Of the team.")


class CreateTeam(Arguments):
    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=2000)


class UpdateTeam(OneTeam):
    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=2000)


class OneMember(OneTeam):
    user: str = Field(description="Id of the user.")


class PutMember(OneMember):
    role: TeamRole = "member"


class DeletedTeam(BaseModel):
    id: str
    deleted: bool = True


class TeamTools:
    def __init__(self, database: Database, teams: TeamService) -> None:
        self._database = database
        self._teams = teams

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool("teams_list", "List teams", "List the teams.", READ, ListTeams, self._list, read_only=True),
            Tool("teams_get", "Show a team", "Show a team and who is in it.", READ, OneTeam, self._get, read_only=True),
            Tool(
                "teams_create",
                "Create a team",
                "Create a team, without members. Access rules and budget limits can then be about it.",
                MANAGE,
                CreateTeam,
                self._create,
            ),
            Tool(
                "teams_update",
                "Change a team",
                "Change a team's name or description. What is left out stays as it is.",
                MANAGE,
                UpdateTeam,
                self._update,
                idempotent=True,
            ),
            Tool(
                "teams_delete",
                "Delete a team",
                "Delete a team. Access rules and budget limits about it apply to nobody any more.",
                MANAGE,
                OneTeam,
                self._delete,
                destructive=True,
            ),
            Tool(
                "teams_put_member",
                "Put a user into a team",
                "Put a user into a team, or give a member another role.",
                MANAGE,
                PutMember,
                self._put_member,
                idempotent=True,
            ),
            Tool(
                "teams_remove_member",
                "Take a user out of a team",
                "Take a user out of a team.",
                MANAGE,
                OneMember,
                self._remove_member,
                destructive=True,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListTeams) -> TeamsView:
        async with self._database.reading() as session:
            return await self._teams.list(session, principal, limit=wanted.limit, offset=wanted.offset)

    async def _get(self, principal: Principal, wanted: OneTeam) -> TeamDetail:
        async with self._database.reading() as session:
            return await self._teams.get(session, principal, wanted.id)

    async def _create(self, principal: Principal, wanted: CreateTeam) -> TeamDetail:
        async with self._database.transaction() as session:
            return await self._teams.create(session, principal, wanted.name, wanted.description)

    async def _update(self, principal: Principal, wanted: UpdateTeam) -> TeamDetail:
        async with self._database.transaction() as session:
            return await self._teams.update(
                session, principal, wanted.id, name=wanted.name, description=wanted.description
            )

    async def _delete(self, principal: Principal, wanted: OneTeam) -> DeletedTeam:
        async with self._database.transaction() as session:
            return DeletedTeam(id=(await self._teams.remove(session, principal, wanted.id)).id)

    async def _put_member(self, principal: Principal, wanted: PutMember) -> TeamDetail:
        async with self._database.transaction() as session:
            return await self._teams.put_member(session, principal, wanted.id, wanted.user, wanted.role)

    async def _remove_member(self, principal: Principal, wanted: OneMember) -> TeamDetail:
        async with self._database.transaction() as session:
            return await self._teams.remove_member(session, principal, wanted.id, wanted.user)
