"""Sets as records: who may make them, what is refused, and what they say of themselves later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from registry.audit.models import AuditEntry
from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.core.events import EventBus
from registry.core.security import Sealer
from registry.identity.principal import OPERATE, Principal
from registry.servers.connection import Offer, Offered
from registry.servers.service import Registration, ServerService
from registry.sets.errors import (
    PublicSetNeedsOperator,
    PublicSetSlugTaken,
    SetInvalid,
    SetNotFound,
    SetSlugTaken,
)
from registry.sets.events import SetChanged
from registry.sets.members import Member
from registry.sets.models import ToolSet
from registry.sets.service import Contents, Draft, SetChanges, SetService
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, add_organization, add_user


def tool(name: str, *parameters: str, required: tuple[str, ...] = ()) -> Offered:
    schema = {"type": "object", "properties": {each: {"type": "string"} for each in parameters}}
    if required:
        schema["required"] = list(required)
    return Offered("tool", name, json.dumps({"name": name, "inputSchema": schema}))


def members(*given: dict[str, Any]) -> tuple[Member, ...]:
    return tuple(Member.model_validate(each) for each in given)


@dataclass
class Registry:
    """The services on a database, with one operator."""

    database: Database
    servers: ServerService
    sets: SetService
    who: Principal

    async def register(self, name: str, *offered: Offered, who: Principal | None = None) -> str:
        who = who or self.who
        registration = Registration(name=name, base_url="https://mcp.test/mcp")
        connection = self.servers.admit(who, registration)
        offer = Offer(reachable=bool(offered), offered=offered)
        async with self.database.transaction() as session:
            return (await self.servers.register(session, who, registration, connection, offer)).id

    async def offer(self, server_id: str, *offered: Offered) -> None:
        async with self.database.transaction() as session:
            server = await self.servers.get(session, self.who, server_id)
            await self.servers.take(session, server, Offer(reachable=True, offered=offered))

    async def remove_server(self, server_id: str) -> None:
        async with self.database.transaction() as session:
            await self.servers.remove(session, self.who, server_id)

    async def create(self, slug: str, *given: dict[str, Any], who: Principal | None = None, **more: Any) -> ToolSet:
        async with self.database.transaction() as session:
            return await self.sets.create(session, who or self.who, Draft(slug, members(*given), **more))

    async def update(self, slug: str, who: Principal | None = None, **changes: Any) -> ToolSet:
        async with self.database.transaction() as session:
            return await self.sets.update(session, who or self.who, slug, SetChanges(**changes))

    async def contents(self, slug: str) -> Contents:
        async with self.database.reading() as session:
            return await self.sets.contents(session, self.who, await self.sets.get(session, self.who, slug))

    async def operator_of(self, slug: str) -> Principal:
        clock = SettableClock()
        org_id = await add_organization(self.database, clock, slug)
        mail = f"root@{slug}.test"
        return (await add_user(self.database, clock, org_id, mail, role="admin", is_operator=True)).principal

    def without(self, permission: str) -> Principal:
        return replace(self.who, permissions=self.who.permissions - {permission})


@pytest.fixture
async def registry(database: Database) -> Registry:
    clock = SettableClock()
    audit = AuditService(clock)
    servers = ServerService(clock, Sealer(MASTER, "servers"), audit)
    made = Registry(database, servers, SetService(clock, audit), Principal("", None, "", frozenset()))
    made.who = await made.operator_of("first")
    return made


def names(contents: Contents) -> list[tuple[str, str, str]]:
    return [(item.exposed, item.server, item.name) for item in contents.chosen]


async def test_a_set_is_created_found_changed_and_removed(registry: Registry, events: EventBus) -> None:
    heard: list[SetChanged] = []
    events.subscribe(SetChanged, heard.append)
    await registry.register("Notes", tool("add"), tool("find"))
    made = await registry.create("mine", {"server": "notes", "tools": ["add", {"name": "find", "as": "look"}]})
    assert (made.name, made.public) == ("mine", False)
    assert names(await registry.contents("mine")) == [("add", "notes", "add"), ("look", "notes", "find")]

    await registry.update("mine", name="Mine", members=members({"server": "notes"}))
    assert names(await registry.contents("mine")) == [("add", "notes", "add"), ("find", "notes", "find")]
    async with registry.database.reading() as session:
        rows, total = await registry.sets.list(session, registry.who)
        assert ([row.name for row in rows], total) == (["Mine"], 1)
        [offer] = await registry.sets.catalog(session, registry.who.org_id)
        assert offer.members == members({"server": "notes"})
    async with registry.database.transaction() as session:
        await registry.sets.remove(session, registry.who, "mine")
    with pytest.raises(SetNotFound):
        await registry.contents("mine")
    assert [event.slug for event in heard] == ["mine"] * 3
    async with registry.database.reading() as session:
        entries = await session.scalars(select(AuditEntry).where(AuditEntry.target_type == "set"))
        assert [entry.action for entry in entries] == ["sets.create", "sets.update", "sets.delete"]


async def test_permissions(registry: Registry) -> None:
    await registry.register("Notes", tool("add"))
    with pytest.raises(Forbidden, match="sets:manage"):
        await registry.create("mine", {"server": "notes"}, who=registry.without("sets:manage"))
    with pytest.raises(PublicSetNeedsOperator):
        await registry.create("mine", {"server": "notes"}, public=True, who=registry.without(OPERATE))
    await registry.create("mine", {"server": "notes"}, public=True)
    with pytest.raises(PublicSetNeedsOperator):
        await registry.update("mine", registry.without(OPERATE), members=members({"server": "notes"}))
    await registry.update("mine", registry.without(OPERATE), name="Another")
    await registry.update("mine", registry.without(OPERATE), public=False, members=members({"server": "notes"}))
    with pytest.raises(PublicSetNeedsOperator):
        await registry.update("mine", registry.without(OPERATE), public=True)
    async with registry.database.reading() as session:
        with pytest.raises(Forbidden, match="sets:read"):
            await registry.sets.list(session, registry.without("sets:read"))


async def test_sets_belong_to_their_organisation(registry: Registry) -> None:
    other = await registry.operator_of("second")
    await registry.register("Notes", tool("add"))
    await registry.register("Theirs", tool("add"), who=other)
    await registry.create("mine", {"server": "notes"})
    async with registry.database.reading() as session:
        assert (await registry.sets.list(session, other))[1] == 0
        with pytest.raises(SetNotFound):
            await registry.sets.get(session, other, "mine")
    with pytest.raises(SetInvalid, match="theirs"):
        await registry.create("stolen", {"server": "theirs"})
    await registry.create("mine", {"server": "theirs"}, who=other)
    with pytest.raises(SetSlugTaken):
        await registry.create("mine", {"server": "notes"})


async def test_one_public_set_for_a_slug_over_all_organisations(registry: Registry) -> None:
    other = await registry.operator_of("second")
    await registry.register("Notes", tool("add"))
    await registry.register("Notes", tool("add"), who=other)
    await registry.create("mine", {"server": "notes"}, public=True)
    with pytest.raises(PublicSetSlugTaken, match="/sets/mine/mcp"):
        await registry.create("mine", {"server": "notes"}, public=True, who=other)
    await registry.create("mine", {"server": "notes"}, who=other)
    with pytest.raises(PublicSetSlugTaken):
        await registry.update("mine", other, public=True)
    await registry.update("mine", public=False)
    await registry.update("mine", other, public=True)


@pytest.mark.parametrize("slug", ["", "Mine", "a_b", "a--b", "-a", "a-", "1a", "a" * 33, "a/b", "ä"])
async def test_a_slug_that_could_be_no_address_is_refused(registry: Registry, slug: str) -> None:
    await registry.register("Notes", tool("add"))
    with pytest.raises(SetInvalid, match="slug"):
        await registry.create(slug, {"server": "notes"})


Refused = Callable[[], list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([{"server": "nobody"}], "no active server 'nobody'"),
        ([{"server": "notes", "tools": ["gone"]}], "'gone'"),
        ([{"server": "notes", "resources": ["x://gone"]}], "x://gone"),
        ([{"server": "notes"}, {"server": "files"}], "called 'add', of notes and of files"),
        ([{"server": "notes", "tools": ["add", {"name": "find", "as": "add"}]}], "called 'add'"),
        ([{"server": "notes", "tools": ["add"]}, {"server": "notes", "tools": ["add"]}], "called 'add'"),
        ([{"server": "notes", "tools": [{"name": "find", "parameters": {"no": {"hide": True}}}]}], "no parameter 'no'"),
        ([{"server": "notes", "tools": [{"name": "find", "parameters": {"q": {"hide": True}}}]}], "'q' .* is required"),
    ],
)
async def test_what_could_not_be_shown_as_it_says_is_refused(
    registry: Registry, given: list[dict[str, Any]], why: str
) -> None:
    await registry.register("Notes", tool("add"), tool("find", "q", required=("q",)))
    await registry.register("Files", tool("add"))
    with pytest.raises(SetInvalid, match=why):
        await registry.create("mine", *given)
    await registry.create("mine", {"server": "notes", "tools": ["find"]})
    with pytest.raises(SetInvalid, match=why):
        await registry.update("mine", members=members(*given))


@pytest.mark.parametrize(
    "given",
    [
        {"server": "notes", "tool": []},
        {"server": "notes", "tools": [{"name": "a", "as": "b__c"}]},
        {"server": "notes", "tools": [{"name": "a", "as": ""}]},
        {"server": "notes", "tools": [{"name": "a", "as": "b c"}]},
        {"server": "notes", "tools": [{"name": "a", "as": "x" * 65}]},
        {"server": "notes", "tools": [{"name": "a", "parameters": {"p": {"fixed": 1, "default": 1}}}]},
        {"server": "notes", "tools": [{"name": "a", "parameters": {"p": {"fixed": 1, "description": "unseen"}}}]},
        {"server": "notes", "resources": [{"uri": "a://b", "as": "a://c"}]},
        {},
    ],
)
def test_members_that_contradict_themselves_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Member.model_validate(given)


def test_a_member_is_kept_as_it_was_given() -> None:
    given = {
        "server": "notes",
        "tools": [{"name": "a", "as": "b", "parameters": {"p": {"fixed": None}, "q": {"default": {"deep": [1]}}}}],
        "resources": [],
    }
    assert Member.model_validate(given).stored() == given
    assert Member.model_validate(Member.model_validate(given).stored()) == Member.model_validate(given)
    assert Member.model_validate({"server": "notes", "tools": ["a"]}).stored()["tools"] == [{"name": "a"}]


async def test_a_set_says_what_is_missing_and_shows_the_rest(registry: Registry) -> None:
    notes = await registry.register("Notes", tool("add", "text"), tool("find"))
    files = await registry.register("Files", tool("read"))
    hidden = {"name": "add", "parameters": {"text": {"hide": True}}}
    await registry.create("mine", {"server": "notes", "tools": [hidden, "find"]}, {"server": "files"})
    assert (await registry.contents("mine")).missing == ()

    await registry.offer(notes, tool("add", "text", required=("text",)))
    await registry.remove_server(files)
    contents = await registry.contents("mine")
    assert names(contents) == [("add", "notes", "add")]
    missing = [(item.what, item.server, item.name) for item in contents.missing]
    assert missing == [("tool", "notes", "find"), ("server", "files", None), ("parameter", "notes", "add")]


async def test_a_collision_by_discovery_leaves_the_first_its_name(registry: Registry) -> None:
    await registry.register("Notes", tool("add"))
    files = await registry.register("Files", tool("read"))
    await registry.create("mine", {"server": "notes"}, {"server": "files"})
    await registry.offer(files, tool("add"), tool("read"))
    assert names(await registry.contents("mine")) == [
        ("add", "notes", "add"),
        ("files__add", "files", "add"),
        ("read", "files", "read"),
    ]


async def test_a_server_that_was_never_reached_may_be_chosen_from(registry: Registry) -> None:
    await registry.register("Away")
    await registry.create("mine", {"server": "away", "tools": ["later"]})
    assert [item.name for item in (await registry.contents("mine")).missing] == ["later"]


async def test_the_gateways_own_tools_may_be_chosen(registry: Registry) -> None:
    registry.sets.offer_own("gatehouse", [("sets_list", tool("sets_list").definition, "sets:read")])
    await registry.create("mine", {"server": "gatehouse", "tools": [{"name": "sets_list", "as": "sets"}]})
    assert names(await registry.contents("mine")) == [("sets", "gatehouse", "sets_list")]
