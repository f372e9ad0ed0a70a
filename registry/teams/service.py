"""Teams: create, list, change and remove them, and say who is in them.

What being in a team means is not decided here: `registry.access` has rules about teams, `registry.budgets` limits for
them. One method per operation; REST, MCP tools and the command line call the same ones.
"""

from __future__ import annotations

from typing import Any

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit, new_id
from registry.core.errors import Invalid
from registry.identity.principal import Principal
from registry.teams import queries
from registry.teams.errors import MemberUnknown, NotAMember, TeamNameTaken, TeamNotFound
from registry.teams.events import TeamsChanged
from registry.teams.models import Team, TeamMember
from registry.teams.views import MemberView, TeamDetail, TeamRole, TeamsView, TeamView

READ = "teams:read"
MANAGE = "teams:manage"


class TeamService:
    """Operations on teams. Every method checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService) -> None:
        self._clock = clock
        self._audit = audit

    async def list(self, session: Session, principal: Principal, *, limit: int = 50, offset: int = 0) -> TeamsView:
        principal.require(READ)
        rows, total = await queries.page(session, principal, limit, offset)
        sizes = await queries.sizes(session, [row.id for row in rows])
        teams = [_view(row, sizes.get(row.id, 0)) for row in rows]
        return TeamsView(teams=teams, total=total, limit=limit, offset=offset)

    async def get(self, session: Session, principal: Principal, team_id: str) -> TeamDetail:
        """A team with its members. Raises `TeamNotFound`."""
        principal.require(READ)
        return await _detail(session, await self._find(session, principal, team_id))

    async def create(self, session: Session, principal: Principal, name: str, description: str = "") -> TeamDetail:
        """Raises `TeamNameTaken`."""
        principal.require(MANAGE)
        now = self._clock.now()
        made = Team(id=new_id(), org_id=principal.org_id, version=1, created_at=now, updated_at=now)
        await self._name(session, principal, made, name)
        made.description = description
        session.add(made)
        await self._changed(session, principal, made, "teams.create", {"name": made.name})
        return await _detail(session, made)

    async def update(
        self,
        session: Session,
        principal: Principal,
        team_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> TeamDetail:
        """Change a team; `None` leaves a field as it is. Raises `TeamNotFound`, `TeamNameTaken`."""
        principal.require(MANAGE)
        team = await self._find(session, principal, team_id, lock=True)
        if name is not None and name != team.name:
            await self._name(session, principal, team, name)
        if description is not None:
            team.description = description
        await self._changed(session, principal, team, "teams.update", {"name": team.name})
        return await _detail(session, team)

    async def remove(self, session: Session, principal: Principal, team_id: str) -> Team:
        """Remove a team: rules and limits for it apply to nobody any more. Raises `TeamNotFound`."""
        principal.require(MANAGE)
        team = await self._find(session, principal, team_id, lock=True)
        team.deleted_at = self._clock.now()
        await self._changed(session, principal, team, "teams.delete", {"name": team.name})
        return team

    async def put_member(
        self, session: Session, principal: Principal, team_id: str, user_id: str, role: TeamRole = "member"
    ) -> TeamDetail:
        """Put a user into a team, or give a member another role. Raises `TeamNotFound`, `MemberUnknown`."""
        principal.require(MANAGE)
        team = await self._find(session, principal, team_id, lock=True)
        known = await queries.user_id(session, principal, user_id)
        if known is None:
            raise MemberUnknown(user_id)
        found = await queries.member(session, team.id, known)
        if found is None:
            session.add(TeamMember(team_id=team.id, user_id=known, role=role, joined_at=self._clock.now()))
        else:
            found.role = role
        await self._changed(session, principal, team, "teams.members.put", {"user_id": known, "role": role})
        return await _detail(session, team)

    async def remove_member(self, session: Session, principal: Principal, team_id: str, user_id: str) -> TeamDetail:
        """Raises `TeamNotFound`, `NotAMember`."""
        principal.require(MANAGE)
        team = await self._find(session, principal, team_id, lock=True)
        found = await queries.member(session, team.id, user_id)
        if found is None:
            raise NotAMember
        await session.delete(found)
        await self._changed(session, principal, team, "teams.members.remove", {"user_id": found.user_id})
        return await _detail(session, team)

    async def _find(self, session: Session, principal: Principal, team_id: str, *, lock: bool = False) -> Team:
        if team := await queries.find(session, principal, team_id, lock=lock):
            return team
        raise TeamNotFound

    async def _name(self, session: Session, principal: Principal, team: Team, name: str) -> None:
        wanted = name.strip()
        if not wanted:
            raise Invalid("A team needs a name.", field="name")
        with session.no_autoflush:
            if await queries.find_by_name(session, principal, wanted):
                raise TeamNameTaken(wanted)
        team.name = wanted

    async def _changed(
        self, session: Session, principal: Principal, team: Team, action: str, detail: dict[str, Any]
    ) -> None:
        if action != "teams.create":
            team.version += 1
            team.updated_at = self._clock.now()
        await session.flush()
        emit(session, TeamsChanged(team.org_id, team.id))
        await self._audit.record(session, principal, action, target=("team", team.id), detail=detail)


def _view(team: Team, size: int) -> TeamView:
    fields = {name: getattr(team, name) for name in TeamView.model_fields if name != "member_count"}
    return TeamView(**fields, member_count=size)


async def _detail(session: Session, team: Team) -> TeamDetail:
    rows = await queries.members(session, team.id)
    members = [
        MemberView(
            user_id=user.id,
            email=user.email,
            name=user.name,
            role="lead" if member.role == "lead" else "member",
            joined_at=member.joined_at,
        )
        for member, user in rows
    ]
    return TeamDetail(**_view(team, len(members)).model_dump(), members=members)
