"""All SQL of teams. Queries for callers start from `live_teams`, which is scoped by the principal."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, Select, func, select

from registry.core.db import Session, as_uuid
from registry.identity.models import User
from registry.identity.principal import Principal
from registry.teams.models import Team, TeamMember


def live_teams(principal: Principal) -> Select[Team]:
    """Teams that exist for this principal: its organisation's."""
    return select(Team).where(Team.org_id == principal.org_id, Team.deleted_at.is_(None))


async def find(session: Session, principal: Principal, team_id: str, *, lock: bool = False) -> Team | None:
    wanted = live_teams(principal).where(Team.id == as_uuid(team_id))
    return await session.scalar(wanted.with_for_update() if lock else wanted)


async def find_by_name(session: Session, principal: Principal, name: str) -> Team | None:
    return await session.scalar(live_teams(principal).where(Team.name == name))


async def page(session: Session, principal: Principal, limit: int, offset: int) -> tuple[Sequence[Team], int]:
    query = live_teams(principal)
    total = await session.scalar(select(func.count()).select_from(query.subquery()))
    rows = await session.scalars(query.order_by(Team.name, Team.id).limit(limit).offset(offset))
    return rows.all(), total or 0


async def sizes(session: Session, team_ids: Sequence[str]) -> dict[str, int]:
    """How many members each team has; one without any is left out."""
    counted = select(TeamMember.team_id, func.count()).where(TeamMember.team_id.in_(team_ids))
    rows = await session.execute(counted.group_by(TeamMember.team_id))
    return {row[0]: row[1] for row in rows.all()}


async def members(session: Session, team_id: str) -> Sequence[Row[TeamMember, User]]:
    wanted = select(TeamMember, User).join(User, User.id == TeamMember.user_id).where(TeamMember.team_id == team_id)
    return (await session.execute(wanted.order_by(TeamMember.joined_at, User.email))).all()


async def member(session: Session, team_id: str, user_id: str) -> TeamMember | None:
    wanted = select(TeamMember).where(TeamMember.team_id == team_id, TeamMember.user_id == as_uuid(user_id))
    return await session.scalar(wanted)


async def user_id(session: Session, principal: Principal, wanted: str) -> str | None:
    """The id of one of the organisation's users, as it is stored."""
    return await session.scalar(select(User.id).where(User.org_id == principal.org_id, User.id == as_uuid(wanted)))


async def memberships(session: Session, org_id: str | None) -> Sequence[tuple[str, str, str]]:
    """Organisation, team and user of every membership, of one organisation or of all: the data path's source."""
    wanted = select(Team.org_id, Team.id, TeamMember.user_id).join(TeamMember, TeamMember.team_id == Team.id)
    wanted = wanted.where(Team.deleted_at.is_(None))
    if org_id is not None:
        wanted = wanted.where(Team.org_id == org_id)
    return [(org, team, user) for org, team, user in (await session.execute(wanted)).all()]


async def signature(session: Session) -> tuple[int, int]:
    """Changes with every team and membership that is added, changed or removed: rows stay, versions only grow."""
    count, versions = (await session.execute(select(func.count(), func.sum(Team.version)).select_from(Team))).one()
    return count, int(versions or 0)
