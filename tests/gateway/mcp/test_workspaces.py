"""Workspaces on the data path: their owner's alone, on `/mcp` and at an address of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.mcp.handler import Address, address_of
from registry.audit.models import AuditEntry
from registry.core.clock import SystemClock
from registry.identity.models import User
from tests.gateway.mcp.door import Door, McpError, opened
from tests.gateway.mcp.echo import Echo
from tests.gateway.mcp.inside import answering, in_memory
from tests.support.containers import MemoryRuntime
from tests.support.identity import add_user
from workspace_runtime.runtime import State


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> MemoryRuntime:
    return in_memory(monkeypatch)


@pytest.fixture
async def inside(runtime: MemoryRuntime) -> AsyncIterator[Echo]:
    async with answering(runtime) as server:
        yield server


@pytest.fixture
async def door(runtime: MemoryRuntime, inside: Echo, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def admin_id(door: Door) -> str:
    found: str = (await door.rest("GET", "/api/v1/users")).json()["users"][0]["id"]
    return found


@pytest.fixture
async def member(door: Door, admin_id: str) -> tuple[str, str]:
    """Id and key of an ordinary user."""
    async with door.app.database.reading() as session:
        org_id = (await session.get_one(User, admin_id)).org_id
    person = await add_user(door.app.database, SystemClock(), org_id, "member@acme.test")
    made = await door.rest("POST", "/api/v1/api-keys", {"name": "theirs", "user_id": person.user.id})
    return person.user.id, made.json()["data"]["api_key"]


async def create(door: Door, name: str, key: str | None = None) -> int:
    answer = await door.rest("POST", "/api/v1/workspaces", {"name": name}, key=key)
    assert answer.status == 201, answer.body
    made: int = answer.json()["data"]["id"]
    return made


def test_addresses() -> None:
    assert address_of("/ws/my.work_space-1/mcp") == Address(None, workspace="my.work_space-1")
    assert address_of("/ws/a/mcp/", b"user_id=u1&x=2") == Address(None, workspace="a", owner="u1")
    for path in ("/ws/health/mcp", "/ws//mcp", "/ws/a", "/ws/a/mcp/x", "/ws/a/b/mcp", "/ws/health/a"):
        assert address_of(path) is None, path


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_workspace_is_served_in_both_eras(door: Door, era: str, inside: Echo) -> None:
    await create(door, "one")
    client = await door.either(era, "/ws/one/mcp", door.agent)
    assert (await client.tools()).keys() >= {"git_status", "read_file", "shell_run"}
    assert (await client.call("git_status", {"repository": "."}))["name"] == "git_status"
    everything = await door.either(era, "/mcp", door.agent)
    assert (await everything.call("one__git_status"))["name"] == "git_status"


async def test_others_see_nothing_of_it(door: Door, admin_id: str, member: tuple[str, str]) -> None:
    member_id, key = member
    await create(door, "one")
    await create(door, "one", key)
    await create(door, "two", key)

    async def prefixes(credential: str) -> set[str]:
        names = await door.modern("/mcp", credential).tools()
        return {name.partition("__")[0] for name in names} - {"gatehouse"}

    # Both of them named one "one"; each has their own at its address, and a prefix of its own on /mcp.
    assert await prefixes(door.admin) == {"one"}
    assert await prefixes(key) == {"one-2", "two"}
    assert await prefixes(door.admin) == {"one"}
    with pytest.raises(McpError, match="Unknown tool"):
        await door.modern("/mcp", key).call("one__git_status")
    for path in ("/ws/two/mcp", "/ws/nothing/mcp"):
        answer = await door.modern(path, door.admin).send("tools/list")
        assert answer.status == 404, path
    # By its slug it is a server like any other, for its owner and for administrators.
    assert (await door.modern("/servers/one/mcp", key).send("tools/list")).status == 404
    assert (await door.modern("/servers/two/mcp", door.admin).send("tools/list")).status == 200
    assert (await door.modern(f"/ws/two/mcp?user_id={member_id}", door.admin).call("git_log"))["name"] == "git_log"
    assert (await door.modern(f"/ws/one/mcp?user_id={admin_id}", key).send("tools/list")).status == 404
    assert (await door.send("POST", "/ws/one/mcp", {}, b"{}")).status == 401


async def test_why_tells_others_nothing_of_it(door: Door, member: tuple[str, str]) -> None:
    await create(door, "one")
    mine, theirs = [
        (await door.rest("GET", "/v1/tools/one__git_status/why", key=key)).json() for key in (None, member[1])
    ]
    assert mine["allowed"]
    assert (theirs["decided_by"], len(theirs["steps"])) == ("listed", 1)


async def test_a_set_shows_no_workspace(door: Door) -> None:
    await create(door, "one")
    answer = await door.rest("POST", "/v1/sets", {"slug": "all", "members": [{"server": "one"}]})
    if answer.status == 201:
        assert not await door.modern("/sets/all/mcp", door.admin).tools()


async def test_a_server_gets_another_slug(door: Door, inside: Echo) -> None:
    await create(door, "echo")
    assert (await door.register("Echo", inside.url))["slug"] == "echo-2"


async def test_a_deleted_workspace_leaves_at_once(door: Door) -> None:
    made = await create(door, "one")
    assert (await door.rest("DELETE", f"/api/v1/workspaces/{made}")).status == 204
    assert (await door.modern("/ws/one/mcp", door.admin).send("tools/list")).status == 404


async def test_a_call_wakes_and_says_why_it_cannot(door: Door, runtime: MemoryRuntime) -> None:
    made = await create(door, "one")
    await door.app.workspaces.lifecycle.settled()
    assert (await door.rest("POST", f"/v1/workspaces/{made}/stop")).status == 200
    await door.app.workspaces.lifecycle.settled()
    assert set(runtime.states().values()) == {State.EXITED}
    client = door.modern("/ws/one/mcp", door.admin)
    await client.tools()
    assert set(runtime.states().values()) == {State.EXITED}, "listing wakes nobody"
    await client.call("git_status")
    assert set(runtime.states().values()) == {State.RUNNING}
    await door.rest("POST", f"/v1/workspaces/{made}/stop")
    await door.app.workspaces.lifecycle.settled()
    await door.app.path.upstreams.close()
    runtime.down = True
    with pytest.raises(McpError, match="start Docker") as refused:
        await client.call("git_status")
    assert (refused.value.code, refused.value.error["data"]["code"]) == (-31003, "NOT_SENT")


async def test_minutes_are_budgeted(door: Door, runtime: MemoryRuntime) -> None:
    limit = {"name": "minutes", "scope_type": "organization", "unit": "minutes", "amount": 0.01, "period": "daily"}
    answer = await door.rest("POST", "/api/v1/budget/limits", limit | {"action_on_exceed": "block"})
    assert answer.status == 201, answer.body
    made = await create(door, "one")
    await door.app.workspaces.lifecycle.settled()
    found = (await door.rest("GET", f"/api/v1/workspaces/{made}")).json()["data"]
    assert (found["status"], found["container_status"]) == ("inactive", "stopped")
    assert "minutes" in found["problem"]
    with pytest.raises(McpError, match="minutes"):
        await door.modern("/ws/one/mcp", door.admin).call("git_status")
    assert runtime.starts == 0


async def test_minutes_of_one_workspace_are_budgeted(door: Door, runtime: MemoryRuntime) -> None:
    one, _ = await create(door, "one"), await create(door, "two")
    await door.app.workspaces.lifecycle.settled()
    limit = {"scope_type": "server", "unit": "minutes", "amount": 0.01, "period": "daily", "action_on_exceed": "block"}
    for scope_id, status in (("one", 201), (f"workspace:{one}", 201), ("nobody", 400), ("workspace:4711", 400)):
        asked = limit | {"name": f"minutes of {scope_id}", "scope_id": scope_id}
        answer = await door.rest("POST", "/api/v1/budget/limits", asked)
        assert answer.status == status, answer.body
    await door.rest("POST", f"/v1/workspaces/{one}/stop")
    await door.app.workspaces.lifecycle.settled()
    with pytest.raises(McpError, match="minutes"):
        await door.modern("/ws/one/mcp", door.admin).call("git_status")
    assert (await door.modern("/ws/two/mcp", door.admin).call("git_status"))["name"] == "git_status"


async def test_calls_of_one_tool_are_budgeted(door: Door) -> None:
    await create(door, "one")
    limit = {"name": "pushes", "scope_type": "tool", "scope_id": "one__git_push", "unit": "calls", "amount": 1}
    answer = await door.rest("POST", "/api/v1/budget/limits", limit | {"period": "daily", "action_on_exceed": "block"})
    assert answer.status == 201, answer.body
    client = door.modern("/ws/one/mcp", door.admin)
    await client.call("git_push")
    await client.call("git_status")
    with pytest.raises(McpError, match="pushes"):
        await client.call("git_push")


async def test_what_it_used_tells_of_its_calls(door: Door) -> None:
    made = await create(door, "one")
    await create(door, "two")
    for name, times in (("one", 3), ("two", 1)):
        for _ in range(times):
            await door.modern(f"/ws/{name}/mcp", door.admin).call("git_status")
    await door.app.path.recorder.written()
    by_rest = (await door.rest("GET", f"/v1/workspaces/{made}/usage")).json()["data"]
    assert (by_rest["calls"], sum(hour["calls"] for hour in by_rest["hours"])) == (3, 3)
    by_tool = await door.modern("/mcp", door.admin).call("gatehouse__workspaces_usage", {"workspace_id": made})
    assert by_tool == by_rest


async def test_credentials_go_with_their_persons_calls_to_remotes(
    door: Door, inside: Echo, member: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[Any] = []
    answers = inside._result

    def noted(method: str, params: dict[str, Any], head: bytes) -> dict[str, Any] | None:
        lent.append(params["_meta"].get("dev.gatehouse/credentials"))
        return answers(method, params, head)

    monkeypatch.setattr(inside, "_result", noted)
    member_id, key = member
    await create(door, "one", key)
    body = {"url": "https://git.test/x", "username": "me", "password": "s3cret"}
    assert (await door.rest("PUT", "/v1/workspaces-credentials", body, key=key)).status == 200
    await door.rest("PUT", "/v1/workspaces-credentials", body | {"password": "the admin's"})
    for credential in (key, door.admin):
        client = door.modern(f"/ws/one/mcp?user_id={member_id}", credential)
        for tool in ("git_push", "git_status"):
            await client.call(tool)
    assert lent == [[{"url": "https://git.test", "username": "me", "password": "s3cret"}], None, [], None]
    listed = await door.rest("GET", "/v1/workspaces-credentials", key=key)
    (kept,) = listed.json()["data"]["credentials"]
    assert (kept["origin"], b"s3cret" in listed.body) == ("https://git.test", False)
    path = f"/v1/workspaces-credentials/{kept['id']}"
    assert [(await door.rest("DELETE", path, key=one)).status for one in (None, key, key)] == [404, 204, 404]


async def test_streams_and_answers_both_end_a_call(door: Door, runtime: MemoryRuntime) -> None:
    await create(door, "one")
    client = door.modern("/ws/one/mcp", door.admin)
    for _ in range(3):
        await client.call("git_status")
    assert door.app.workspaces.lifecycle.taken_uses().keys() == {1}
    assert door.app.workspaces.lifecycle.taken_uses() == {}, "no call is left under way"


@dataclass(frozen=True)
class Operation:
    """One operation by REST and as a tool.

    Args:
        audit: the entry that it leaves; `None` for one that only reads.
    """

    tool: str
    rest: tuple[str, str]
    permission: str
    audit: str | None = None
    body: dict[str, Any] | None = None
    others: dict[str, Any] = field(default_factory=dict)


ONE, CONTROL = "/api/v1/workspaces/{id}", "/v1/workspaces/{id}"
READ, MANAGE = "workspaces:read", "workspaces:manage"
OPERATIONS = (
    Operation("list", ("GET", "/api/v1/workspaces"), READ),
    Operation("get", ("GET", ONE), READ),
    Operation("logs", ("GET", f"{CONTROL}/logs"), READ),
    Operation("stats", ("GET", f"{CONTROL}/stats"), READ),
    Operation("events", ("GET", f"{CONTROL}/events"), READ),
    Operation("usage", ("GET", f"{CONTROL}/usage"), READ),
    Operation(
        "create", ("POST", "/api/v1/workspaces"), MANAGE, "workspaces.create", {"name": "{new}"}, {"name": "{new}"}
    ),
    Operation("start", ("POST", f"{CONTROL}/start"), MANAGE, "workspaces.start"),
    Operation("stop", ("POST", f"{CONTROL}/stop"), MANAGE, "workspaces.stop"),
    Operation("restart", ("POST", f"{CONTROL}/restart"), MANAGE, "workspaces.restart"),
    Operation(
        "exec", ("POST", f"{CONTROL}/exec"), MANAGE, "workspaces.exec", {"command": ["true"]}, {"command": ["true"]}
    ),
    Operation("build_image", ("POST", "/v1/workspaces-image"), "gateway:operate", "workspaces.build_image"),
    Operation("delete", ("DELETE", ONE), MANAGE, "workspaces.delete"),
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.tool)
async def test_every_operation_by_both_doors(door: Door, operation: Operation) -> None:
    """One permission and one entry, whichever door it comes through."""
    key = await narrowed(door, [operation.permission, "mcp:tools:call", "mcp:tools:list"])
    without = await narrowed(door, ["mcp:tools:call", "mcp:tools:list"])
    entries: list[list[str]] = []
    for way, name in (("rest", "by-rest"), ("tool", "by-tool")):
        made = await create(door, name)
        await door.app.workspaces.lifecycle.settled()
        before = await audited(door)

        async def use(credential: str, way: str = way, made: int = made, name: str = name) -> bool:
            if way == "rest":
                body = filled(operation.body, name)
                method, path = operation.rest
                answer = await door.rest(method, path.format(id=made), body, key=credential)
                assert answer.status in (200, 201, 204, 403, 503), answer.body
                return answer.status != 403
            arguments = filled(operation.others, name)
            if operation.tool not in ("list", "create", "build_image"):
                arguments["workspace_id"] = made
            client = door.modern("/mcp", credential)
            params = {"name": f"gatehouse__workspaces_{operation.tool}", "arguments": arguments}
            message = (await client.send("tools/call", params)).json()
            assert "result" in message or "Unknown tool" in message["error"]["message"]
            return "result" in message

        assert not await use(without)
        assert await audited(door) == before
        assert await use(key)
        entries.append((await audited(door))[len(before) :])
    assert entries == [[operation.audit] if operation.audit else []] * 2


def filled(values: dict[str, Any] | None, name: str) -> dict[str, Any]:
    return {key: f"new-{name}" if value == "{new}" else value for key, value in (values or {}).items()}


async def narrowed(door: Door, permissions: list[str]) -> str:
    answer = await door.rest("POST", "/v1/api-keys", {"name": "narrowed", "permissions": permissions})
    assert answer.status == 201, answer.body
    key: str = answer.json()["api_key"]
    return key


async def audited(door: Door) -> list[str]:
    """Actions on workspaces, oldest first."""
    async with door.app.database.reading() as session:
        found = await session.scalars(select(AuditEntry.action).order_by(AuditEntry.chain_id, AuditEntry.chain_seq))
        return [action for action in found if action.startswith("workspaces.")]
