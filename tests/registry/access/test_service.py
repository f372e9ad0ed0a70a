"""Access rules as records: their order, whom and what they may be about, and what the data path gets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select

from registry.access.errors import AccessRuleInvalid, AccessRuleNotFound
from registry.access.models import AccessRuleRecord
from registry.access.service import AccessService
from registry.access.views import AccessRuleDraft
from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.core.events import EventBus
from registry.servers.events import OffersChanged
from registry.sets.members import Member
from registry.sets.service import Draft, SetService
from registry.teams.service import TeamService
from tests.support.clock import SettableClock
from tests.support.identity import Person, add_key, add_organization, add_user, make_service


@dataclass
class House:
    database: Database
    clock: SettableClock
    access: AccessService
    teams: TeamService
    admin: Person
    stranger: Person

    async def create(self, *, by: Person | None = None, before: str | None = None, **fields: Any) -> AccessRuleRecord:
        draft = AccessRuleDraft(**{"name": "r", "effect": "deny", "pattern": "files__*", **fields})
        async with self.database.transaction() as session:
            return await self.access.create(session, (by or self.admin).principal, draft, before=before)

    async def order(self) -> list[tuple[int, str]]:
        async with self.database.reading() as session:
            return [(row.place, row.name) for row in await self.access.rules(session, self.admin.principal)]


@pytest.fixture
async def house(database: Database) -> House:
    clock = SettableClock()
    audit = AuditService(clock)
    people = [
        await add_user(database, clock, await add_organization(database, clock, slug), f"a@{slug}.test", role="admin")
        for slug in ("acme", "other")
    ]
    return House(database, clock, AccessService(clock, audit), TeamService(clock, audit), *people)


async def test_rules_keep_their_order(house: House, events: EventBus) -> None:
    heard: list[OffersChanged] = []
    events.subscribe(OffersChanged, heard.append)
    first = await house.create(name="first")
    last = await house.create(name="last")
    await house.create(name="middle", before=last.id)
    await house.create(name="zero", before=first.id)
    assert await house.order() == [(1, "zero"), (2, "first"), (3, "middle"), (4, "last")]
    async with house.database.transaction() as session:
        await house.access.remove(session, house.admin.principal, first.id)
    assert await house.order() == [(1, "zero"), (2, "middle"), (3, "last")]
    assert [change.org_id for change in heard] == [house.admin.user.org_id] * 5
    async with house.database.reading() as session:
        actions = list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.chain_seq)))
    assert actions == ["access.rules.create"] * 4 + ["access.rules.delete"]


async def test_another_organisations_rules_are_unknown(house: House) -> None:
    rule = await house.create()
    with pytest.raises(AccessRuleNotFound):
        await house.create(by=house.stranger, before=rule.id)
    async with house.database.transaction() as session:
        with pytest.raises(AccessRuleNotFound):
            await house.access.remove(session, house.stranger.principal, rule.id)
        assert await house.access.rules(session, house.stranger.principal) == []
    async with house.database.reading() as session:
        assert set(await house.access.books(session)) == {house.admin.user.org_id}
        assert await house.access.books(session, house.stranger.user.org_id) == {}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"who": "role", "who_id": "king"}, "who_id"),
        ({"who": "role"}, "who_id"),
        ({"who": "anyone", "who_id": "x"}, "who_id"),
        ({"who": "user", "who_id": "{stranger}"}, "who_id"),
        ({"who": "user", "who_id": "no id"}, "who_id"),
        ({"who": "team", "who_id": "{team}"}, "who_id"),
        ({"who": "key", "who_id": "{key}"}, "who_id"),
        ({"who": "key", "who_id": "seven"}, "who_id"),
        ({"pattern": None}, "pattern"),
        ({"set": "picked"}, "pattern"),
        ({"pattern": None, "set": "nothing"}, "set"),
        ({"pattern": "gatehouse__servers_*"}, "pattern"),
    ],
)
async def test_a_rule_is_about_somebody_and_something_that_exists(
    house: House, fields: dict[str, Any], field: str
) -> None:
    async with house.database.transaction() as session:
        team = await house.teams.create(session, house.stranger.principal, "theirs")
    key, _ = await add_key(house.database, make_service(house.clock), house.stranger)
    names = {"{stranger}": house.stranger.user.id, "{team}": team.id, "{key}": str(key)}
    with pytest.raises(AccessRuleInvalid) as refused:
        await house.create(**{name: names.get(value, value) for name, value in fields.items()})
    assert refused.value.field == field
    assert await house.order() == []


async def test_every_kind_of_subject_can_be_named_and_is_applied(house: House) -> None:
    admin = house.admin
    key, _ = await add_key(house.database, make_service(house.clock), admin)
    async with house.database.transaction() as session:
        team = await house.teams.create(session, admin.principal, "red")
        await house.teams.put_member(session, admin.principal, team.id, admin.user.id)
        sets = SetService(house.clock, AuditService(house.clock))
        sets.offer_own("own", [("read", "{}", "x")])
        await sets.create(session, admin.principal, Draft("picked", (Member(server="own"),)))
    subjects = [("anyone", None), ("role", "admin"), ("role", "public"), ("team", team.id)]
    subjects += [("user", admin.user.id.upper()), ("key", f"0{key}")]
    for who, who_id in subjects:
        await house.create(who=who, who_id=who_id, name=who)
    await house.create(name="set", pattern=None, set="picked")
    async with house.database.reading() as session:
        (book,) = (await house.access.books(session)).values()
    by_key = replace(admin.principal, key_id=key)
    assert [rule.name for rule in book.access_of(by_key).rules] == ["anyone", "role", "team", "user", "key", "set"]
    async with house.database.transaction() as session:
        await house.teams.remove(session, admin.principal, team.id)
    async with house.database.reading() as session:
        (book,) = (await house.access.books(session)).values()
    assert "team" not in [rule.name for rule in book.access_of(by_key).rules]


async def test_seeing_and_changing_need_their_permissions(house: House) -> None:
    rule = await house.create()
    for permission in ("access:read", "access:manage"):
        poor = replace(house.admin.principal, permissions=house.admin.principal.permissions - {permission})
        async with house.database.transaction() as session:
            with pytest.raises(Forbidden, match=permission):
                if permission == "access:read":
                    await house.access.rules(session, poor)
                else:
                    await house.access.remove(session, poor, rule.id)
