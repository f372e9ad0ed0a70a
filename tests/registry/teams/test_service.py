"""Teams as records: whose they are, who is in them, and how other processes see that anything changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from sqlalchemy import select

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden, Invalid
from registry.core.events import EventBus
from registry.identity.principal import Principal
from registry.teams import queries
from registry.teams.errors import MemberUnknown, NotAMember, TeamNameTaken, TeamNotFound
from registry.teams.events import TeamsChanged
from registry.teams.service import TeamService
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_organization, add_user


@dataclass
class House:
    database: Database
    teams: TeamService
    admin: Person
    member: Person
    stranger: Person

    @property
    def who(self) -> Principal:
        return self.admin.principal

    async def signature(self) -> tuple[int, int]:
        async with self.database.reading() as session:
            return await queries.signature(session)


@pytest.fixture
async def house(database: Database) -> House:
    clock = SettableClock()
    acme, other = [await add_organization(database, clock, slug) for slug in ("acme", "other")]
    admin = await add_user(database, clock, acme, "a@acme.test", role="admin")
    member = await add_user(database, clock, acme, "m@acme.test")
    stranger = await add_user(database, clock, other, "s@other.test", role="admin")
    return House(database, TeamService(clock, AuditService(clock)), admin, member, stranger)


async def test_a_team_from_its_making_to_its_end(house: House, events: EventBus) -> None:
    heard: list[TeamsChanged] = []
    events.subscribe(TeamsChanged, heard.append)
    seen = [await house.signature()]
    async with house.database.transaction() as session:
        team = await house.teams.create(session, house.who, " red ", "for tests")
    assert (team.name, team.member_count) == ("red", 0)
    seen.append(await house.signature())
    for role in ("member", "lead"):
        async with house.database.transaction() as session:
            team = await house.teams.put_member(session, house.who, team.id, house.member.user.id, role)
        assert [(each.email, each.role) for each in team.members] == [("m@acme.test", role)]
        seen.append(await house.signature())
    async with house.database.transaction() as session:
        team = await house.teams.update(session, house.who, team.id, name="blue")
        assert (team.name, team.description, team.member_count) == ("blue", "for tests", 1)
    seen.append(await house.signature())
    async with house.database.reading() as session:
        page = await house.teams.list(session, house.who)
        assert [(each.name, each.member_count) for each in page.teams] == [("blue", 1)]
        assert await queries.memberships(session, None) == [(house.who.org_id, team.id, house.member.user.id)]
    async with house.database.transaction() as session:
        assert (await house.teams.remove_member(session, house.who, team.id, house.member.user.id)).members == []
        with pytest.raises(NotAMember):
            await house.teams.remove_member(session, house.who, team.id, house.member.user.id)
    seen.append(await house.signature())
    async with house.database.transaction() as session:
        await house.teams.remove(session, house.who, team.id)
    seen.append(await house.signature())
    assert len(set(seen)) == len(seen), "a change that other processes cannot see"
    async with house.database.transaction() as session:
        with pytest.raises(TeamNotFound):
            await house.teams.get(session, house.who, team.id)
        assert (await house.teams.create(session, house.who, "blue")).name == "blue"
    assert len(heard) == 7
    async with house.database.reading() as session:
        actions = list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.chain_seq)))
    assert actions == [
        "teams.create",
        "teams.members.put",
        "teams.members.put",
        "teams.update",
        "teams.members.remove",
        "teams.delete",
        "teams.create",
    ]


async def test_a_name_is_one_teams_own(house: House) -> None:
    async with house.database.transaction() as session:
        await house.teams.create(session, house.who, "red")
        other = await house.teams.create(session, house.who, "blue")
        with pytest.raises(TeamNameTaken):
            await house.teams.create(session, house.who, "red")
        with pytest.raises(TeamNameTaken):
            await house.teams.update(session, house.who, other.id, name="red")
        with pytest.raises(Invalid):
            await house.teams.create(session, house.who, "  ")
        assert (await house.teams.create(session, house.stranger.principal, "red")).member_count == 0


async def test_another_organisations_teams_and_users_are_unknown(house: House) -> None:
    async with house.database.transaction() as session:
        team = await house.teams.create(session, house.who, "red")
        stranger = house.stranger.principal
        with pytest.raises(TeamNotFound):
            await house.teams.get(session, stranger, team.id)
        with pytest.raises(TeamNotFound):
            await house.teams.remove(session, stranger, team.id)
        with pytest.raises(TeamNotFound):
            await house.teams.put_member(session, stranger, team.id, house.stranger.user.id)
        with pytest.raises(MemberUnknown):
            await house.teams.put_member(session, house.who, team.id, house.stranger.user.id)
        with pytest.raises(MemberUnknown):
            await house.teams.put_member(session, house.who, team.id, "nobody")
        assert (await house.teams.list(session, stranger)).total == 0


async def test_seeing_and_changing_need_their_permissions(house: House) -> None:
    async with house.database.transaction() as session:
        for permission in ("teams:read", "teams:manage"):
            poor = replace(house.who, permissions=house.who.permissions - {permission})
            with pytest.raises(Forbidden, match=permission):
                await (
                    house.teams.list(session, poor)
                    if permission == "teams:read"
                    else house.teams.create(session, poor, "red")
                )
