"""Workspaces as records: who may do what, names, slugs and quotas."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from registry.audit.models import AuditEntry
from registry.core.errors import Forbidden, GatehouseError
from registry.identity.principal import Principal
from registry.servers.models import Server
from registry.workspaces.errors import (
    EngineMissing,
    QuotaExceeded,
    WorkspaceForbidden,
    WorkspaceInvalid,
    WorkspaceNameInvalid,
    WorkspaceNameTaken,
    WorkspaceNotFound,
)
from registry.workspaces.models import Workspace
from registry.workspaces.names import acceptable, slug_of
from registry.workspaces.queries import workspace_slugs
from tests.registry.workspaces.conftest import QUOTA, Yard
from tests.support.identity import Person


@pytest.mark.parametrize("name", ["a", "my-workspace", "a.b_c-D9", "x" * 128, ".hidden"])
def test_names_of_the_document(name: str) -> None:
    assert acceptable(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a b", "a/b", "..", ".", "ä", "a\n", "health", "Gatehouse", "a%2fb", "a\0", "a?b", "²"]
)
def test_names_that_are_refused(name: str) -> None:
    assert not acceptable(name)


def test_slugs_are_names_where_they_can_be() -> None:
    assert slug_of("my-workspace", set()) == "my-workspace"
    assert slug_of("My_Work.Space", set()) == "my-work-space"
    assert slug_of("9lives", set()) == "w-9lives"
    assert slug_of("...a...", {"a"}) == "a-2"
    assert slug_of("---_---", set()) == "w"
    long = slug_of("x" * 100, {"x" * 32})
    assert (len(long) <= 32, long.endswith("-2")) == (True, True)


async def test_a_workspace_is_noted_and_then_made(yard: Yard, owner: Person) -> None:
    made = await yard.create(owner, "one", metadata={"description": "first"})
    assert (made.status, made.container_status, made.slug) == ("active", "starting", "one")
    await yard.lifecycle.settled()
    seen = await yard.see(made.id)
    assert (seen.container_status, seen.container_id) == ("running", f"id-{yard.name_of(made)}")
    assert await yard.events(owner, made.id) == ["create", "started"]


async def test_creating_refuses(yard: Yard, owner: Person, colleague: Person) -> None:
    await yard.create(owner, "one")
    with pytest.raises(WorkspaceNameTaken):
        await yard.create(owner, "one")
    with pytest.raises(WorkspaceNameInvalid):
        await yard.create(owner, "not a name")
    with pytest.raises(WorkspaceInvalid, match="operator's list"):
        await yard.create(owner, "two", image="somebody/elses")
    with pytest.raises(WorkspaceInvalid, match="allowlist"):
        await yard.create(owner, "two", hosts=("example.org",))
    with pytest.raises(WorkspaceInvalid, match="no host"):
        await yard.create(owner, "two", network="allowlist", hosts=("example.org/x",))
    assert (await yard.create(colleague, "one")).slug == "one-2"


async def test_no_engine_no_workspace(yard: Yard, owner: Person) -> None:
    yard.runtime.down = True
    with pytest.raises(EngineMissing, match=r"start Docker on this machine.*DOCKER_HOST") as refused:
        await yard.create(owner, "one")
    assert refused.value.status == 503
    async with yard.database.reading() as session:
        assert await yard.service.counts(session) == (0, 0)


async def test_a_burst_ends_at_the_quota(yard: Yard, owner: Person) -> None:
    made = await asyncio.gather(*(yard.create(owner, f"w{n}") for n in range(QUOTA + 4)), return_exceptions=True)
    refused = [one for one in made if isinstance(one, BaseException)]
    assert {type(one) for one in refused} == {QuotaExceeded}
    assert len(refused) == 4
    await yard.lifecycle.settled()
    assert len(yard.runtime.containers) == QUOTA
    last = next(one for one in made if isinstance(one, Workspace))
    await yard.steer("remove", owner, last.id)
    await yard.create(owner, "again")


async def test_everybody_sees_their_own(yard: Yard, owner: Person, colleague: Person, admin: Person) -> None:
    one, two = await yard.create(owner, "one"), await yard.create(colleague, "two")
    async with yard.database.reading() as session:
        pages = {
            person.user.email: [row.id for row in (await yard.service.page(session, person.principal))[0]]
            for person in (owner, colleague, admin)
        }
        assert pages == {
            "owner@acme.test": [one.id],
            "colleague@acme.test": [two.id],
            "admin@acme.test": [one.id, two.id],
        }
        rows, total = await yard.service.page(session, admin.principal, user_id=owner.user.id)
        assert ([row.id for row in rows], total) == ([one.id], 1)
        with pytest.raises(WorkspaceForbidden):
            await yard.service.page(session, owner.principal, user_id=colleague.user.id)


@pytest.mark.parametrize("verb", ["get", "start", "stop", "restart", "remove", "events", "usage"])
async def test_others_are_kept_out(yard: Yard, owner: Person, colleague: Person, stranger: Person, verb: str) -> None:
    made = await yard.create(owner, "one")
    with pytest.raises(WorkspaceForbidden):
        await yard.steer(verb, colleague, made.id)
    with pytest.raises(WorkspaceNotFound):
        await yard.steer(verb, stranger, made.id)
    for nobody in (0, -1, 2**40):
        with pytest.raises(WorkspaceNotFound):
            await yard.steer(verb, owner, nobody)


async def test_a_narrowed_key_only_looks(yard: Yard, owner: Person) -> None:
    made = await yard.create(owner, "one")
    principal = owner.principal
    looker = Person(owner.user, Principal(principal.org_id, principal.user_id, "user", frozenset({"workspaces:read"})))
    assert (await yard.steer("get", looker, made.id)).id == made.id
    for verb in ("start", "stop", "restart", "remove"):
        with pytest.raises(Forbidden, match="workspaces:manage"):
            await yard.steer(verb, looker, made.id)
    blind = Person(owner.user, Principal(principal.org_id, principal.user_id, "user", frozenset()))
    with pytest.raises(Forbidden, match="workspaces:read"):
        await yard.steer("get", blind, made.id)


async def test_deleting_frees_name_and_slug(yard: Yard, owner: Person) -> None:
    first = await yard.create(owner, "one")
    await yard.lifecycle.settled()
    await yard.steer("remove", owner, first.id)
    await yard.lifecycle.settled()
    assert yard.runtime.containers == {}
    second = await yard.create(owner, "one")
    assert (second.slug, second.id > first.id) == ("one", True)
    async with yard.database.reading() as session:
        deleted, total = await yard.service.page(session, owner.principal, status="deleted")
        assert ([row.id for row in deleted], total) == ([first.id], 1)
        assert [row.id for row in (await yard.service.page(session, owner.principal))[0]] == [second.id]
    with pytest.raises(WorkspaceNotFound):
        await yard.steer("start", owner, first.id)


async def test_slugs_are_unlike_those_of_servers(yard: Yard, owner: Person) -> None:
    now = yard.clock.now()
    async with yard.database.transaction() as session:
        session.add(
            Server(
                org_id=owner.principal.org_id,
                slug="notes",
                name="Notes",
                transport="sse",
                created_at=now,
                updated_at=now,
            )
        )
    assert (await yard.create(owner, "notes")).slug == "notes-2"
    async with yard.database.transaction() as session:
        assert await workspace_slugs(session, owner.principal.org_id) == {"notes-2"}


async def test_what_was_done_is_audited(yard: Yard, owner: Person) -> None:
    made = await yard.create(owner, "one")
    for verb in ("stop", "start", "restart", "remove"):
        await yard.steer(verb, owner, made.id)
    await yard.lifecycle.settled()
    async with yard.database.reading() as session:
        found = await session.scalars(select(AuditEntry.action).order_by(AuditEntry.chain_seq))
        verbs = ("create", "stop", "start", "restart", "delete")
        assert list(found) == [f"workspaces.{verb}" for verb in verbs]


def test_errors_say_what_to_do() -> None:
    for error in (EngineMissing("it is down."), QuotaExceeded(3), WorkspaceNameInvalid()):
        assert isinstance(error, GatehouseError)
        assert len(error.message) > 40
