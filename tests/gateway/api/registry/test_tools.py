"""Every MCP tool over REST: the same results, refusals and records as over MCP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.mcp import protocol
from gateway.mcp.envelope import ProtocolError
from gateway.mcp.policies.policy import Attempt
from tests.support.running import Running
from tests.support.servers.process import command_line, descendants

UPSTREAM = """
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

server = MCPServer("upstream")


class Point(BaseModel):
    x: int
    y: int


class Line(BaseModel):
    begin: Point
    end: Point


@server.tool(structured_output=False)
def echo(text: str) -> str:
    return text


@server.tool()
def flip(line: Line) -> Line:
    return Line(begin=line.end, end=line.begin)


@server.tool(structured_output=False)
def fail() -> str:
    raise ValueError("broken")


@server.resource("memo://one")
def memo() -> str:
    return "remember"


server.run("stdio")
"""


@pytest.fixture
async def upstream(gateway: Running, tmp_path: Path) -> dict[str, Any]:
    program = tmp_path / "server.py"
    program.write_text(UPSTREAM)
    server = await gateway.register("Up", command=sys.executable, args=[str(program)])
    # A program takes its time to start on a busy machine; who registers it is answered before.
    async with asyncio.timeout(60):
        while server["health_status"] != "healthy":
            await gateway.rest("POST", f"/v1/mcp/servers/{server['id']}/capabilities/discover")
            server = (await gateway.rest("GET", f"/v1/mcp/servers/{server['id']}"))[1]
    return server


class Refusing:
    """A policy that refuses everything, in one way."""

    def __init__(self, error: ProtocolError) -> None:
        self.error = error

    def admit(self, attempt: Attempt) -> None:
        raise self.error

    def settle(self, attempt: Attempt, outcome: str) -> None:
        pass


async def test_a_tool_is_called_and_answers_its_result(gateway: Running, upstream: dict[str, Any]) -> None:
    status, result = await gateway.rest("POST", "/v1/tools/up__echo", {"text": "hé"})
    assert (status, result) == (200, {"content": [{"type": "text", "text": "hé"}], "isError": False})

    line = {"begin": {"x": 1, "y": 2}, "end": {"x": 3, "y": 4}}
    status, result = await gateway.rest("POST", "/v1/tools/up__flip", {"line": line})
    assert status == 200
    assert result["structuredContent"] == {"begin": line["end"], "end": line["begin"]}

    status, result = await gateway.rest("POST", "/v1/tools/up__fail")
    assert status == 200
    assert result["isError"] is True


async def test_own_tools_are_called_with_the_callers_rights(gateway: Running) -> None:
    status, result = await gateway.rest("POST", "/v1/tools/gatehouse__servers_list", {})
    assert status == 200
    assert result["structuredContent"]["total"] == 0
    body = {"name": "x", "base_url": "http://127.0.0.1:1/mcp"}
    status, problem = await gateway.rest("POST", "/v1/tools/gatehouse__servers_register", body, key=gateway.agent_key)
    assert status == 404, problem
    status, made = await gateway.rest("POST", "/v1/tools/gatehouse__servers_register", body)
    assert status == 200
    assert made["structuredContent"]["slug"] == "x"


async def test_what_cannot_be_called_is_refused(gateway: Running, upstream: dict[str, Any]) -> None:
    assert (await gateway.rest("POST", "/v1/tools/up__nothing", {}))[0] == 404
    assert (await gateway.rest("POST", "/v1/tools/up__echo", [1]))[0] == 422
    async with gateway.http.post(
        gateway.url + "/v1/tools/up__echo", data=b'{"text":1,"text":2}', headers={"X-API-Key": gateway.key}
    ) as answer:
        assert answer.status == 400
    async with gateway.http.post(gateway.url + "/v1/tools/up__echo") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        (protocol.BUDGET_EXCEEDED, 402, "BUDGET_EXCEEDED"),
        (protocol.RATE_LIMITED, 429, "RATE_LIMIT_EXCEEDED"),
        (protocol.EMERGENCY_STOP, 503, "EMERGENCY_STOP"),
        (protocol.APPROVAL_REQUIRED, 409, "APPROVAL_REQUIRED"),
    ],
)
async def test_a_policys_refusal_is_a_rest_error(
    gateway: Running, upstream: dict[str, Any], code: int, status: int, word: str
) -> None:
    keeping = gateway.application.path.caller._router._keeping
    refusal = ProtocolError(code, "Not now.", data={"limit": "daily"})
    object.__setattr__(keeping, "policies", [*keeping.policies, Refusing(refusal)])
    got, problem = await gateway.rest("POST", "/v1/tools/up__echo", {"text": "x"})
    assert got == status
    assert problem["error"]["code"] == word
    assert problem["error"]["details"]["limit"] == "daily"
    tried = {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
    path = f"/v1/mcp/servers/{upstream['id']}/capabilities/test"
    assert (await gateway.rest("POST", path, tried))[0] == status


def end_children_of(program: Path) -> None:
    """A first look's child may still live: end it, so that the next one must be started anew."""
    for pid in descendants(os.getpid()):
        if str(program).encode() in command_line(pid):
            os.kill(pid, signal.SIGKILL)


async def test_a_dead_server_is_unavailable(gateway: Running, tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(UPSTREAM)
    server = await gateway.register("Gone", command=sys.executable, args=[str(program)])
    program.unlink()
    end_children_of(program)
    status, problem = await gateway.rest("POST", "/v1/tools/gone__echo", {"text": "x"})
    assert status == 503, problem
    assert problem["error"]["code"] == "NOT_SENT"
    status, tried = await gateway.rest(
        "POST",
        f"/v1/mcp/servers/{server['id']}/capabilities/test",
        {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}},
    )
    assert status == 200
    assert (tried["success"], tried["result"], tried["error"]["code"]) == (False, None, "NOT_SENT")


async def test_calls_are_recorded_with_the_request_id(gateway: Running, upstream: dict[str, Any]) -> None:
    seen: list[Any] = []
    recorder = gateway.application.path.caller._router._keeping.recorder
    write = recorder._sink

    async def watch(calls: Any) -> None:
        seen.extend(calls)
        await write(calls)

    recorder._sink = watch
    await gateway.rest("POST", "/v1/tools/up__echo", {"text": "x"}, headers={"X-Request-ID": "mine-1"})
    await recorder.written()
    (call,) = seen
    assert (call.name, call.outcome, call.request_id, call.server_slug) == ("up__echo", "ok", "mine-1", "up")
    assert call.key_id is not None


async def test_the_list_is_paged_and_holds_what_the_caller_sees(gateway: Running, upstream: dict[str, Any]) -> None:
    _, all_of_them = await gateway.rest("GET", "/v1/tools?limit=1000")
    names = [tool["name"] for tool in all_of_them["tools"]]
    assert {"up__echo", "gatehouse__servers_register"} <= set(names)
    assert all_of_them["total"] == len(names)
    _, page = await gateway.rest("GET", "/v1/tools?limit=1&offset=1")
    assert [tool["name"] for tool in page["tools"]] == names[1:2]
    _, fewer = await gateway.rest("GET", "/v1/tools?limit=1000", key=gateway.agent_key)
    assert "gatehouse__servers_register" not in {tool["name"] for tool in fewer["tools"]}


async def test_the_description_names_every_tool_and_its_references_resolve(
    gateway: Running, upstream: dict[str, Any]
) -> None:
    status, document = await gateway.rest("GET", "/v1/tools/openapi.json")
    assert status == 200
    operation = document["paths"]["/v1/tools/up__flip"]["post"]
    assert operation["operationId"] == "up__flip"
    arguments = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert _at(document, arguments)["required"] == ["line"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert set(_at(document, answer["structuredContent"]["$ref"])["properties"]) == {"begin", "end"}
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = list(_references(document))
    assert len(references) > 10
    for reference in references:
        _at(document, reference)


async def test_a_servers_methods_are_tried(gateway: Running, upstream: dict[str, Any]) -> None:
    path = f"/v1/mcp/servers/{upstream['id']}/capabilities/test"

    async def tried(method: str, **params: Any) -> dict[str, Any]:
        status, answer = await gateway.rest("POST", path, {"method": method, "params": params})
        assert status == 200, answer
        return answer

    called = await tried("tools/call", name="echo", arguments={"text": "x"})
    assert called["success"] is True
    assert called["result"]["content"] == [{"type": "text", "text": "x"}]
    assert called["execution_time_ms"] >= 0
    assert (await tried("tools/call", name="fail", arguments={}))["success"] is False
    assert {tool["name"] for tool in (await tried("tools/list"))["result"]["tools"]} == {"echo", "flip", "fail"}
    assert (await tried("resources/read", uri="memo://one"))["result"]["contents"][0]["text"] == "remember"
    assert (await tried("prompts/list"))["result"] == {"prompts": []}

    assert (await gateway.rest("POST", path, {"method": "tools/call", "params": {"name": "no"}}))[0] == 422
    assert (await gateway.rest("POST", path, {"method": "shutdown"}))[0] == 422
    other = "/v1/mcp/servers/00000000-0000-0000-0000-000000000000/capabilities/test"
    assert (await gateway.rest("POST", other, {"method": "tools/list"}))[0] == 404
    assert (await gateway.rest("POST", path, {"method": "tools/list"}, key=gateway.agent_key))[0] == 403


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for below in value.values():
            yield from _references(below)
    elif isinstance(value, list):
        for below in value:
            yield from _references(below)


def _at(document: Any, reference: str) -> Any:
    value = document
    for step in reference.removeprefix("#/").split("/"):
        value = value[step]
    return value
