"""Workspaces and the MCP bridge, by the document."""

from __future__ import annotations

import pytest

from tests.contract.covers import covers
from tests.contract.workspaces.conftest import Client
from tests.gateway.mcp.door import HOST
from tests.gateway.mcp.echo import Echo
from tests.support.containers import MemoryRuntime

CREATE, LIST = "POST /api/v1/workspaces", "GET /api/v1/workspaces"
ONE, DELETE = "GET /api/v1/workspaces/{workspace_id}", "DELETE /api/v1/workspaces/{workspace_id}"
TOOLS, INVOKE = "GET /api/v1/mcp/tools", "POST /api/v1/mcp/invoke"


@covers("POST /api/v1/workspaces", "GET /api/v1/workspaces/{workspace_id}")
async def test_create_and_get(admin: Client) -> None:
    body = {"name": "my-workspace", "metadata": {"description": "My workspace"}}
    made = (await admin.ask(CREATE, body))["data"]
    assert made["name"] == "my-workspace"
    assert (made["status"], made["container_status"], made["user_id"]) == ("active", "starting", admin.user_id)
    assert made["endpoint_url"] == f"http://{HOST}/ws/my-workspace/mcp"
    await admin.settle()
    found = (await admin.ask(ONE, workspace_id=made["id"]))["data"]
    assert (found["container_status"], found["metadata"]) == ("running", {"description": "My workspace"})
    assert found["container_id"].startswith("id-gatehouse-")
    tools = {tool["name"] for tool in found["tools"]}
    assert tools >= {"git_status", "read_file", "edit_file", "shell_run"}


@covers("POST /api/v1/workspaces")
async def test_create_refuses(admin: Client, runtime: MemoryRuntime) -> None:
    for name in ("", "not a name", "x" * 129, "a/b", ".."):
        error = await admin.refused(CREATE, 400, {"name": name})
        assert error["detail"].startswith("Invalid workspace name format")
        assert error["error"]["code"] == "VALIDATION_ERROR"
    assert (await admin.refused(CREATE, 400, {}))["detail"][0]["loc"] == ["body", "name"]
    await admin.ask(CREATE, {"name": "one"})
    await admin.refused(CREATE, 409, {"name": "one"})
    await admin.refused(CREATE, 400, {"name": "two", "image": "somebody/elses"})
    await admin.settle()
    runtime.down = True
    admin.door.app.workspaces.engine.forget()
    error = await admin.refused(CREATE, 503, {"name": "two"})
    assert "DOCKER_HOST" in error["detail"]


@covers("POST /api/v1/workspaces")
async def test_a_burst_past_the_quota_is_told_to_wait(admin: Client, runtime: MemoryRuntime) -> None:
    for number in range(20):
        await admin.ask(CREATE, {"name": f"w{number}"})
    answer = await admin.send(CREATE, {"name": "one-more"})
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    said = answer.json()
    assert (said["error"], said["retry_after"]) == ("Rate limit exceeded", 60)
    await admin.settle()
    assert len(runtime.containers) == 20


@covers("GET /api/v1/workspaces")
async def test_list(admin: Client, member: Client) -> None:
    made = [(await admin.ask(CREATE, {"name": f"w{number}"}))["data"]["id"] for number in range(3)]
    theirs = (await member.ask(CREATE, {"name": "w0"}))["data"]["id"]
    await admin.ask(DELETE, workspace_id=made[2])
    page = await admin.ask(LIST, query="page=2&per_page=2")
    assert [one["id"] for one in page["data"]["workspaces"]] == [theirs]
    assert page["meta"] == {"page": 2, "per_page": 2, "total": 3}
    assert (await admin.ask(LIST))["meta"] == {"page": 1, "per_page": 20, "total": 3}
    by_status = {
        status: await admin.ask(LIST, query=f"status={status}") for status in ("active", "inactive", "deleted")
    }
    assert [len(found["data"]["workspaces"]) for found in by_status.values()] == [3, 0, 1]
    of_member = await admin.ask(LIST, query=f"user_id={member.user_id}")
    assert [one["id"] for one in of_member["data"]["workspaces"]] == [theirs]
    assert [one["id"] for one in (await member.ask(LIST))["data"]["workspaces"]] == [theirs]
    await member.refused(LIST, 403, query=f"user_id={admin.user_id}")
    for query in ("page=0", "per_page=101", "status=lost"):
        await admin.refused(LIST, 400, query=query)


@covers("GET /api/v1/workspaces/{workspace_id}", "DELETE /api/v1/workspaces/{workspace_id}")
async def test_others_are_kept_out(admin: Client, member: Client) -> None:
    made = (await admin.ask(CREATE, {"name": "one"}))["data"]["id"]
    theirs = (await member.ask(CREATE, {"name": "two"}))["data"]["id"]
    for endpoint in (ONE, DELETE):
        error = await member.refused(endpoint, 403, workspace_id=made)
        assert error["detail"] == "Not authorized to access this resource"
        error = await member.refused(endpoint, 404, workspace_id=4711)
        assert error["detail"] == "Workspace not found"
    await admin.ask(ONE, workspace_id=theirs)
    await admin.ask(DELETE, workspace_id=theirs)
    await member.refused(ONE, 404, workspace_id=theirs)


@covers("DELETE /api/v1/workspaces/{workspace_id}")
async def test_deleted_is_stopped_and_kept_as_deleted(admin: Client, runtime: MemoryRuntime) -> None:
    made = (await admin.ask(CREATE, {"name": "one"}))["data"]["id"]
    await admin.settle()
    await admin.ask(DELETE, workspace_id=made)
    await admin.settle()
    assert runtime.containers == {}
    (found,) = (await admin.ask(LIST, query="status=deleted"))["data"]["workspaces"]
    assert (found["id"], found["status"]) == (made, "deleted")


@covers("GET /api/v1/mcp/tools", "POST /api/v1/mcp/invoke")
async def test_the_bridge(admin: Client, member: Client, inside: Echo) -> None:
    made = (await member.ask(CREATE, {"name": "one"}))["data"]["id"]
    listed = (await member.ask(TOOLS, query=f"workspace_id={made}"))["data"]
    assert listed["count"] == len(listed["tools"]) > 10
    body = {"workspace_id": made, "tool": "git_status", "parameters": {"repository": "."}}
    for client in (member, admin):
        answer = await client.send(INVOKE, body)
        assert answer.status == 200, answer.body
        done = answer.json()["data"]
        assert (done["tool"], done["workspace_id"], done["is_error"]) == ("git_status", made, False)
        assert '"arguments": {"repository": "."}' in done["result"]
    assert [one["name"] for one in inside.received] == ["git_status"] * 2


@covers("POST /api/v1/mcp/invoke")
async def test_the_bridge_gives_structured_results(
    admin: Client, inside: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    structured = {"branch": "main", "status": "clean"}
    monkeypatch.setattr(inside, "_result", lambda *_: {"content": [], "structuredContent": structured})
    made = (await admin.ask(CREATE, {"name": "one"}))["data"]["id"]
    done = await admin.ask(INVOKE, {"workspace_id": made, "tool": "git_status"})
    assert done["data"]["result"] == structured
    monkeypatch.setattr(
        inside, "_result", lambda *_: {"content": [{"type": "text", "text": "no such file"}], "isError": True}
    )
    failed = (await admin.send(INVOKE, {"workspace_id": made, "tool": "git_status"})).json()["data"]
    assert (failed["result"], failed["is_error"]) == ("no such file", True)


@covers("GET /api/v1/mcp/tools", "POST /api/v1/mcp/invoke")
async def test_the_bridge_refuses(admin: Client, member: Client, inside: Echo, runtime: MemoryRuntime) -> None:
    made = (await admin.ask(CREATE, {"name": "one"}))["data"]["id"]
    await member.refused(TOOLS, 403, query=f"workspace_id={made}")
    await member.refused(INVOKE, 403, {"workspace_id": made, "tool": "git_status"})
    await admin.refused(TOOLS, 404, query="workspace_id=4711")
    await admin.refused(INVOKE, 404, {"workspace_id": 4711, "tool": "git_status"})
    await admin.refused(TOOLS, 400)
    await admin.refused(INVOKE, 400, {"workspace_id": made})
    await admin.refused(INVOKE, 400, {"workspace_id": made, "tool": "no_such_tool"})
    assert inside.received == []
    await admin.settle()
    runtime.containers.clear()
    runtime.broken = True
    error = await admin.refused(INVOKE, 503, {"workspace_id": made, "tool": "git_status"})
    assert "does not feel like it" in error["detail"]


@covers("POST /api/v1/mcp/invoke")
async def test_the_bridge_passes_what_every_call_passes(admin: Client, inside: Echo) -> None:
    made = (await admin.ask(CREATE, {"name": "one"}))["data"]["id"]
    body = {"workspace_id": made, "tool": "git_status"}
    await admin.send(INVOKE, body)
    (record,) = (await _records(admin))["calls"]
    assert (record["server"], record["name"], record["outcome"]) == ("one", "git_status", "ok")
    await admin.door.rest("POST", "/api/v1/emergency/pause-all", {"reason": "test"})
    error = await admin.refused(INVOKE, 503, body)
    assert error["error"]["code"] == "EMERGENCY_STOP"
    assert len(inside.received) == 1


async def _records(admin: Client) -> dict:
    await admin.door.app.path.recorder.written()
    return (await admin.door.rest("GET", "/v1/usage/calls")).json()
