"""Teams in the Registry API. Our own routes."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.teams.service import TeamService
from registry.teams.views import TeamDetail, TeamRole, TeamsView

TEAMS = Limit("teams", 100, 60, "user")


class TeamBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=2000)


class TeamChangesBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=2000)


class MemberBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: TeamRole = "member"


class DeletedTeamAnswer(BaseModel):
    id: str
    message: str = "Team deleted successfully"


def router(front: Front, teams: TeamService) -> APIRouter:
    api = front.router(tags=["Teams"], limit=TEAMS)

    @api.get("/v1/teams")
    async def list_teams(
        session: Session,
        caller: Caller,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> TeamsView:
        return await teams.list(session, caller, limit=limit, offset=offset)

    @api.post("/v1/teams", status_code=201)
    async def create_team(body: TeamBody, session: Session, caller: Caller) -> TeamDetail:
        return await teams.create(session, caller, body.name, body.description)

    @api.get("/v1/teams/{team_id}")
    async def get_team(team_id: str, session: Session, caller: Caller) -> TeamDetail:
        return await teams.get(session, caller, team_id)

    @api.put("/v1/teams/{team_id}")
    async def update_team(team_id: str, body: TeamChangesBody, session: Session, caller: Caller) -> TeamDetail:
        return await teams.update(session, caller, team_id, name=body.name, description=body.description)

    @api.delete("/v1/teams/{team_id}")
    async def delete_team(team_id: str, session: Session, caller: Caller) -> DeletedTeamAnswer:
        return DeletedTeamAnswer(id=(await teams.remove(session, caller, team_id)).id)

    @api.put("/v1/teams/{team_id}/members/{user_id}")
    async def put_team_member(
        team_id: str, user_id: str, session: Session, caller: Caller, body: MemberBody | None = None
    ) -> TeamDetail:
        role = body.role if body is not None else "member"
        return await teams.put_member(session, caller, team_id, user_id, role)

    @api.delete("/v1/teams/{team_id}/members/{user_id}")
    async def remove_team_member(team_id: str, user_id: str, session: Session, caller: Caller) -> TeamDetail:
        return await teams.remove_member(session, caller, team_id, user_id)

    return api
