"""Every operation by REST, MCP tool and command line: the same permission, the same entry in the audit log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from gateway.cli import app
from registry.identity.permissions import PERMISSIONS
from registry.identity.principal import OPERATE
from tests.e2e.wire import McpError, Modern
from tests.gateway.safety.operations import OPERATIONS, Operation
from tests.gateway.safety.scene import Scene
from tests.support.attacks import attack

EVERYWHERE = ["mcp:tools:list", "mcp:tools:call"]
TOOLS = (
    *("access_", "teams_", "tools_", "budget_", "emergency_", "pins_", "approvals_", "usage_", "metrics_", "audit_"),
    *("health_", "alerts_", "channels_", "jobs_", "organizations_", "users_", "sessions_", "grants_", "logins_"),
    "accounts_",
)
ROUTES = re.compile(
    r"/api/v1/(budget|emergency|users)\b|/v1/(approvals|usage|audit|teams|access|notifications|jobs|organizations)\b"
    r"|/pins\b|/price$|/why$|^/v1/mcp/servers/[^/]*/(health|login|account)\b|^/v1/auth/(sessions|grants)\b"
    r"|^/v1/mcp/accounts\b"
)
COMMANDS = {
    *("access", "teams", "why", "budget", "emergency", "pins", "approvals", "usage", "audit", "health", "channels"),
    *("jobs", "organizations", "users", "sessions", "grants", "logins", "accounts"),
}
OTHERS = {"health_get"}
"""Tools with no operation of their own: this one puts together what `/health` and the list of servers tell."""


def _by_rest(at: Scene, operation: Operation, key: str) -> bool:
    method, path = at.filled(operation.rest)
    answer = at.gateway.rest(method, path, at.filled(operation.body), key=key)
    if answer.status == 403:
        error = answer.json()["error"]
        assert error["details"] == ({} if operation.refusal else {"permission": operation.permission})
        # The document's own word on its own paths.
        own_word = path.startswith("/api/v1/") and "/users" not in path
        assert error["code"] == ("FORBIDDEN" if own_word else "INSUFFICIENT_PERMISSIONS")
        return False
    assert answer.status in ((201,) if operation.tool.endswith("_create") else (200, 204)), answer.text
    return True


def _by_tool(at: Scene, operation: Operation, key: str) -> bool:
    client = Modern(f"{at.gateway.url}/mcp", key)
    params = {"name": f"gatehouse__{operation.tool}", "arguments": at.filled(operation.arguments or {})}
    try:
        result = client.result("tools/call", params)
    except McpError as error:
        # What a caller may not use is not there for it.
        if error.code != -32602 or "Unknown tool" not in str(error):
            raise
        return False
    assert not result["isError"], result
    return True


def _by_command(at: Scene, operation: Operation, key: str) -> bool:
    return at.command(key, *at.filled(operation.command), *["--json"] * operation.as_json) == 0


DOORS = {"rest": _by_rest, "tool": _by_tool, "command": _by_command}


@attack(14)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_operation_needs_its_permission_and_leaves_its_entry(
    scene: Scene, operation: Operation, door: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = scene.furnished(repr(operation))
    # A key with everything else gets nowhere, one with this alone does.
    poor = at.key(PERMISSIONS.keys() - {operation.permission, *operation.instead, OPERATE})
    rich = at.key({*EVERYWHERE, operation.permission, *operation.others})
    if operation.before is not None:
        answer = at.gateway.rest(*at.filled(operation.before))
        assert answer.status == 200, answer.text
    before = at.audited()
    if door == "tool" or not operation.own:
        assert not DOORS[door](at, operation, poor)
        if door == "command":
            assert (operation.refusal or operation.permission) in capsys.readouterr().err
        assert at.audited() == before
    try:
        assert DOORS[door](at, operation, rich), capsys.readouterr().err
        assert at.audited()[len(before) :] == ([operation.audit] if operation.audit else [])
    finally:
        if operation.tool == "emergency_pause":
            at.resume()
    said = capsys.readouterr().out
    if door == "command" and operation.as_json:
        json.loads(said)


def test_every_tool_is_in_the_list(scene: Scene) -> None:
    client = Modern(f"{scene.gateway.url}/mcp", scene.gateway.admin_key)
    names = {name.removeprefix("gatehouse__") for name in client.listed("tools")}
    assert {name for name in names - OTHERS if name.startswith(TOOLS)} == {operation.tool for operation in OPERATIONS}


def test_every_route_is_in_the_list(scene: Scene) -> None:
    paths = scene.gateway.rest("GET", "/api/v1/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() if ROUTES.search(path) for method in methods}
    listed = {(method, path.partition("?")[0].replace("/say/", "/{}/")) for method, path in _rest()}
    assert {(method, _nameless(path)) for method, path in served} == {
        (method, _nameless(path)) for method, path in listed
    }


def _rest() -> Iterator[tuple[str, str]]:
    return (operation.rest for operation in OPERATIONS)


def _nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_command_is_in_the_list() -> None:
    top: Any = typer.main.get_command(app)
    found = {words for name in COMMANDS for words in _leaves(top.commands[name], (name,))}
    for words in found:
        assert any(operation.command[: len(words)] == words for operation in OPERATIONS), words


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    commands: dict[str, Any] | None = getattr(command, "commands", None)
    if commands is None:
        yield words
        return
    for name, inner in commands.items():
        yield from _leaves(inner, (*words, name))


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


def test_the_command_line_shows_who_may_use_what(at: Scene) -> None:
    name = f"team-{at.names['number']}"
    assert at.gateway.cli("teams", "add-member", name, at.names["user"]).code == 0
    assert at.names["user"] in at.gateway.cli("teams", "show", name).out
    made = at.gateway.cli("access", "allow", "echo__*", "--team", name, "--before", at.names["access"])
    assert made.out.startswith("Created rule allow echo__* ("), made.both
    listed = at.gateway.cli("access", "list")
    assert f"allow\tteam {at.names['team']}\techo__*" in listed.out
    assert "A rule is about one of" in at.gateway.cli("access", "deny", "x__*", "--team", name, "--role", "user").err
    assert "There is no team 'none'" in at.gateway.cli("access", "deny", "x__*", "--team", "none").err
    told = at.gateway.cli("why", "echo__pay")
    assert "access_rule" in told.out
    assert "'allow echo__*'" in told.out
