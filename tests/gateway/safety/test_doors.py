"""Every operation on pins, approvals and `why`, by REST, tool and command line: one permission, one entry."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.e2e.wire import McpError, Modern
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.support.gateway import RunningGateway, new_key


@dataclass(frozen=True)
class Operation:
    """One operation and its doors; the placeholders are filled with what a test may use up.

    Args:
        rest: method and path.
        command: what follows `gatehouse`.
        audit: the entry that it leaves; `None` for one that only reads.
        others: permissions that its command needs to find what it is about.
    """

    tool: str
    rest: tuple[str, str]
    command: tuple[str, ...]
    permission: str
    audit: str | None = None
    body: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    others: tuple[str, ...] = ()


READ, DECIDE, MANAGE = "approvals:read", "approvals:decide", "approvals:manage"
PINS, APPROVALS = "/v1/mcp/servers/echo/pins", "/v1/approvals"
ONE_PIN = {"server": "echo", "id": "{pin}"}
OPERATIONS = (
    Operation("pins_list", ("GET", PINS), ("pins", "list", "echo"), READ, arguments={"server": "echo"}),
    Operation(
        "pins_approve",
        ("POST", f"{PINS}/{{pin}}/approve"),
        ("pins", "approve", "echo", "{pin}"),
        DECIDE,
        "pins.approve",
        arguments=ONE_PIN,
        others=(READ,),
    ),
    Operation(
        "pins_keep",
        ("POST", f"{PINS}/{{pin}}/keep"),
        ("pins", "keep", "echo", "{pin}"),
        DECIDE,
        "pins.keep",
        arguments=ONE_PIN,
        others=(READ,),
    ),
    Operation("approvals_list", ("GET", APPROVALS), ("approvals", "list"), READ),
    Operation(
        "approvals_approve",
        ("POST", f"{APPROVALS}/{{approval}}/approve"),
        ("approvals", "approve", "{approval}"),
        DECIDE,
        "approvals.approve",
        arguments={"id": "{approval}"},
    ),
    Operation(
        "approvals_deny",
        ("POST", f"{APPROVALS}/{{approval}}/deny"),
        ("approvals", "deny", "{approval}", "--reason", "no"),
        DECIDE,
        "approvals.deny",
        body={"reason": "no"},
        arguments={"id": "{approval}", "reason": "no"},
    ),
    Operation("approvals_rules_list", ("GET", f"{APPROVALS}/rules"), ("approvals", "rules", "list"), READ),
    Operation(
        "approvals_rules_create",
        ("POST", f"{APPROVALS}/rules"),
        ("approvals", "rules", "create", "new", "--tool", "none__*", "--argument", "a", "gt", "5"),
        MANAGE,
        "approvals.rules.create",
        {"name": "new", "tool": "none__*", "argument": {"path": "a", "compare": "gt", "value": 5}},
        {"name": "new", "tool": "none__*", "argument": {"path": "a", "compare": "gt", "value": 5}},
    ),
    Operation(
        "approvals_rules_delete",
        ("DELETE", f"{APPROVALS}/rules/{{rule}}"),
        ("approvals", "rules", "delete", "{rule}"),
        MANAGE,
        "approvals.rules.delete",
        arguments={"id": "{rule}"},
    ),
    Operation(
        "tools_why",
        ("GET", "/v1/tools/echo__say/why"),
        ("why", "echo__say"),
        "mcp:servers:read",
        arguments={"tool": "echo__say"},
    ),
)


class Upstream:
    """An echo server in a thread of its own, for tests that wait for processes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._made = echo(tools=[tool("say"), tool("pay")])
        self.server: Echo | None = None

    def __enter__(self) -> Echo:
        self._thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._made.__aenter__(), self._loop).result(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._made.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


_numbers = count()


@dataclass(frozen=True)
class Scene:
    """A gateway with a server `echo`, whose `pay` waits for a person."""

    gateway: RunningGateway
    upstream: Echo
    server: str
    names: dict[str, str]

    def filled(self, value: Any) -> Any:
        """The placeholders of an operation, filled in."""
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, dict):
            return {name: self.filled(part) for name, part in value.items()}
        return tuple(map(self.filled, value)) if isinstance(value, tuple) else value

    def audited(self) -> list[str]:
        """The action of every entry that a person left on pins and approvals, in order."""
        with sqlite3.connect(self.gateway.data_dir / "gatehouse.db") as database:
            rows = database.execute("SELECT action FROM audit_entries ORDER BY at").fetchall()
        own = ("pins.hold", "approvals.ask", "approvals.use")
        return [action for (action,) in rows if action.startswith(("pins.", "approvals.")) and action not in own]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("safety")
    with Upstream() as upstream, RunningGateway(directory / "data", env={"GATEHOUSE_RATE_LIMITS": "off"}) as gateway:
        server = gateway.rest("POST", "/v1/mcp/servers", {"name": "echo", "base_url": upstream.url})
        assert server.status == 201, server.text
        rule = gateway.rest("POST", f"{APPROVALS}/rules", {"name": "pay", "tool": "echo__pay"})
        assert rule.status == 201, rule.text
        yield Scene(gateway, upstream, server.json()["id"], {})


@pytest.fixture
def at(scene: Scene) -> Scene:
    """The scene with a held definition, a call that waits, and a rule that the test may do with as it likes."""
    number = next(_numbers)
    scene.upstream.tools[0]["description"] = f"the {number}th"
    found = scene.gateway.rest("POST", f"/v1/mcp/servers/{scene.server}/capabilities/discover")
    assert found.status == 200, found.text
    (pin,) = scene.gateway.rest("GET", PINS).json()["pins"]
    client = Modern(f"{scene.gateway.url}/mcp", scene.gateway.agent_key)
    with pytest.raises(McpError) as waits:
        client.result("tools/call", {"name": "echo__pay", "arguments": {"number": number}})
    waiting = scene.gateway.rest("GET", APPROVALS).json()["approvals"]
    (approval,) = [row for row in waiting if json.loads(row["arguments"]) == {"number": number}]
    assert waits.value.code == -31005
    rule = scene.gateway.rest("POST", f"{APPROVALS}/rules", {"name": "unused", "tool": "none__*"})
    names = {"pin": pin["id"], "approval": approval["id"], "rule": rule.json()["id"]}
    return Scene(scene.gateway, scene.upstream, scene.server, names)


def _by_rest(at: Scene, operation: Operation, key: str) -> bool:
    method, path = at.filled(operation.rest)
    answer = at.gateway.rest(method, path, at.filled(operation.body), key=key)
    if answer.status == 403:
        return False
    assert answer.status == (201 if operation.tool.endswith("_create") else 200), answer.text
    return True


def _by_tool(at: Scene, operation: Operation, key: str) -> bool:
    client = Modern(f"{at.gateway.url}/mcp", key)
    params = {"name": f"gatehouse__{operation.tool}", "arguments": at.filled(operation.arguments or {})}
    try:
        result = client.result("tools/call", params)
    except McpError as error:
        if error.code != -32602:
            raise
        return False
    assert not result["isError"], result
    return True


def _by_command(at: Scene, operation: Operation, key: str) -> bool:
    ran = at.gateway.cli(*at.filled(operation.command), "--json", GATEHOUSE_API_KEY=key)
    if ran.code == 0:
        json.loads(ran.out)
        return True
    assert operation.permission in ran.err, ran.both
    return False


DOORS = {"rest": _by_rest, "tool": _by_tool, "command": _by_command}
EVERYWHERE = ["mcp:tools:list", "mcp:tools:call"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.tool)
def test_an_operation_needs_its_permission_and_leaves_its_entry(at: Scene, operation: Operation, door: str) -> None:
    wanted = {operation.permission, *operation.others}
    without = {READ, DECIDE, MANAGE} - {operation.permission}
    name = f"key-{next(_numbers)}"
    before = at.audited()
    poor = new_key(at.gateway, f"{name}-poor", permissions=[*EVERYWHERE, *sorted(without)])
    assert not DOORS[door](at, operation, poor)
    assert at.audited() == before
    rich = new_key(at.gateway, f"{name}-rich", permissions=[*EVERYWHERE, *sorted(wanted)])
    assert DOORS[door](at, operation, rich)
    assert at.audited()[len(before) :] == ([operation.audit] if operation.audit else [])


def test_every_tool_on_pins_and_approvals_is_in_the_list(scene: Scene) -> None:
    client = Modern(f"{scene.gateway.url}/mcp", scene.gateway.admin_key)
    names = (name.removeprefix("gatehouse__") for name in client.listed("tools"))
    offered = {name for name in names if name.startswith(("pins_", "approvals_", "tools_"))}
    assert offered == {operation.tool for operation in OPERATIONS}


def test_every_route_on_pins_and_approvals_is_in_the_list(scene: Scene) -> None:
    paths = scene.gateway.rest("GET", "/api/v1/openapi.json").json()["paths"]
    served = {
        (method.upper(), path)
        for path, methods in paths.items()
        if path.startswith(APPROVALS) or "/pins" in path or path.endswith("/why")
        for method in methods
    }
    wanted = {
        (method, path.replace("servers/echo", "servers/{server_id}"))
        for method, path in (operation.rest for operation in OPERATIONS)
    }
    assert {(method, path.replace("_id}", "}")) for method, path in served} == {
        (method, path.replace("_id}", "}").replace("echo__say", "{name}")) for method, path in wanted
    }


def test_the_command_line_shows_what_is_held_and_what_waits(at: Scene) -> None:
    shown = at.gateway.cli("pins", "list", "echo")
    assert "held tool say" in shown.out
    assert "its definition has changed" in shown.out
    assert '+  "description"' in shown.out
    listed = at.gateway.cli("approvals", "list")
    assert at.names["approval"] in listed.out
    assert "echo__pay" in listed.out
    assert at.gateway.cli("pins", "approve", "echo", "say").out == "Approved tool say.\n"
    assert at.gateway.cli("approvals", "approve", at.names["approval"]).out.startswith("Approved: echo__pay passes")
