"""Every operation on budgets by REST, as MCP tool and on the command line: one permission, one audit entry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.e2e.wire import Modern
from tests.support.gateway import RunningGateway, exchange, new_key
from tests.support.servers.notes import NotesServer


@dataclass(frozen=True)
class Operation:
    """One operation and its doors; `{id}` is a limit made for it, `{server}` a registered server.

    Args:
        rest: method and path.
        body: of the REST request.
        arguments: of the tool.
        command: what follows `gatehouse budget`.
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


BUDGET = "/api/v1/budget"
READ, MANAGE = "budgets:read", "budgets:manage"
NEW = {"name": "new", "amount": 5, "unit": "calls", "scope_type": "user", "scope_id": "{user}"}
OPERATIONS = (
    Operation("budget_summary", ("GET", f"{BUDGET}/summary"), ("summary",), READ),
    Operation("budget_by_project", ("GET", f"{BUDGET}/by-project"), ("by-project",), READ),
    Operation("budget_by_agent", ("GET", f"{BUDGET}/by-agent"), ("by-agent",), READ),
    Operation(
        "budget_timeline",
        ("GET", f"{BUDGET}/timeline?granularity=week"),
        ("timeline", "--by", "week"),
        READ,
        arguments={"granularity": "week"},
    ),
    Operation("budget_limits_list", ("GET", f"{BUDGET}/limits"), ("limits", "list"), READ),
    Operation(
        "budget_limits_create",
        ("POST", f"{BUDGET}/limits"),
        ("limits", "create", "new", "5", "--unit", "calls", "--scope", "user", "--for", "{user}"),
        MANAGE,
        "budgets.limits.create",
        NEW,
        NEW,
    ),
    Operation(
        "budget_limits_update",
        ("PATCH", f"{BUDGET}/limits/{{id}}"),
        ("limits", "update", "{id}", "--amount", "7"),
        MANAGE,
        "budgets.limits.update",
        {"amount": 7},
        {"id": "{id}", "amount": 7},
    ),
    Operation(
        "budget_limits_resume",
        ("POST", f"{BUDGET}/limits/{{id}}/resume"),
        ("limits", "resume", "{id}"),
        MANAGE,
        "budgets.limits.resume",
        arguments={"id": "{id}"},
    ),
    Operation(
        "budget_limits_delete",
        ("DELETE", f"{BUDGET}/limits/{{id}}"),
        ("limits", "delete", "{id}"),
        MANAGE,
        "budgets.limits.delete",
        arguments={"id": "{id}"},
    ),
    Operation(
        "budget_prices_set",
        ("PUT", "/v1/mcp/servers/{server}/tools/{tool}/price"),
        ("price", "{server}", "{tool}", "0.01"),
        "mcp:servers:update",
        "servers.price",
        {"price_usd": 0.01},
        {"server": "{server}", "tool": "{tool}", "price_usd": 0.01},
        ("mcp:servers:read",),
    ),
)


@dataclass(frozen=True)
class Scene:
    """A gateway with a server `notes` and a user."""

    gateway: RunningGateway
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

    def audited(self) -> list[tuple[str, str]]:
        """Action and target's kind of every entry on budgets and prices, in order."""
        with sqlite3.connect(self.gateway.data_dir / "gatehouse.db") as database:
            query = "SELECT action, target_type, detail FROM audit_entries ORDER BY at"
            rows = database.execute(query).fetchall()
        return [(action, kind) for action, kind, _ in rows if action.startswith(("budgets.", "servers.price"))]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("doors")
    env = {"GATEHOUSE_RATE_LIMITS": "off"}
    with NotesServer(directory) as notes, RunningGateway(directory / "data", env=env) as gateway:
        server = gateway.rest("POST", "/v1/mcp/servers", {"name": "notes", "base_url": notes.url})
        assert server.status == 201, server.text
        keys = gateway.rest("GET", "/v1/api-keys").json()["api_keys"]
        yield Scene(gateway, {"server": server.json()["id"], "tool": "shout", "user": keys[0]["user_id"]})


@pytest.fixture
def at(scene: Scene) -> Scene:
    """The scene with a limit that the test may do with as it likes."""
    body = scene.filled({**NEW, "name": "made for a test"})
    made = scene.gateway.rest("POST", f"{BUDGET}/limits", body)
    assert made.status == 201, made.text
    return Scene(scene.gateway, {**scene.names, "id": made.json()["id"]})


_numbers = count()


def _by_rest(at: Scene, operation: Operation, key: str) -> bool:
    method, path = at.filled(operation.rest)
    answer = at.gateway.rest(method, path, at.filled(operation.body), key=key)
    if answer.status == 403:
        # The document's own word on its own paths.
        assert answer.json()["error"]["code"] in ("FORBIDDEN", "INSUFFICIENT_PERMISSIONS")
        assert (answer.json()["error"]["code"] == "FORBIDDEN") == path.startswith(BUDGET)
        return False
    assert answer.status == (201 if operation.tool.endswith("_create") else 200), answer.text
    return True


def _by_tool(at: Scene, operation: Operation, key: str) -> bool:
    client = Modern(f"{at.gateway.url}/mcp", key)
    params = {"name": f"gatehouse__{operation.tool}", "arguments": at.filled(operation.arguments or {})}
    message = client.send("tools/call", params).json()
    if "error" in message:
        # What a caller may not use is not there for it.
        assert message["error"]["code"] == -32602, message
        return False
    assert not message["result"]["isError"], message
    return True


def _by_command(at: Scene, operation: Operation, key: str) -> bool:
    ran = at.gateway.cli("budget", *at.filled(operation.command), "--json", GATEHOUSE_API_KEY=key)
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
    without = {READ, MANAGE, "mcp:servers:update", "mcp:servers:read"} - {operation.permission}
    name = f"key-{next(_numbers)}"
    before = at.audited()
    poor = new_key(at.gateway, f"{name}-poor", permissions=[*EVERYWHERE, *sorted(without)])
    assert not DOORS[door](at, operation, poor)
    assert at.audited() == before
    rich = new_key(at.gateway, f"{name}-rich", permissions=[*EVERYWHERE, *sorted(wanted)])
    assert DOORS[door](at, operation, rich)
    target = "server" if operation.tool == "budget_prices_set" else "budget_limit"
    assert at.audited()[len(before) :] == ([(operation.audit, target)] if operation.audit else [])


def test_every_tool_on_budgets_is_in_the_list(scene: Scene) -> None:
    client = Modern(f"{scene.gateway.url}/mcp", scene.gateway.admin_key)
    offered = {name.removeprefix("gatehouse__") for name in client.listed("tools") if "__budget_" in name}
    assert offered == {operation.tool for operation in OPERATIONS}


def test_every_route_on_budgets_is_in_the_list(scene: Scene) -> None:
    paths = scene.gateway.rest("GET", "/api/v1/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() if "/budget/" in path for method in methods}
    listed = {(method, path.partition("?")[0]) for method, path in (operation.rest for operation in OPERATIONS)}
    assert {(method, path.replace("{limit_id}", "{id}")) for method, path in served} == {
        (method, path) for method, path in listed if "/budget/" in path
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scope_type": "project", "scope_id": "x"}, "scope_type"),
        ({"scope_type": "agent", "scope_id": "x"}, "scope_type"),
        ({"scope_type": "team", "scope_id": "x"}, "scope_id"),
        ({"scope_type": "user", "scope_id": "nobody"}, "scope_id"),
        ({"scope_type": "key", "scope_id": "999999"}, "scope_id"),
        ({"scope_type": "tool", "scope_id": "notes__nothing"}, "scope_id"),
        ({"amount": -1}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount_usd": 1}, "amount"),
        ({"period": "yearly"}, "period"),
        ({"alert_threshold": 0}, "alert_threshold"),
        ({"action_on_exceed": "shout"}, "action_on_exceed"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_is_refused_and_named(scene: Scene, body: dict[str, Any], field: str) -> None:
    answer = scene.gateway.rest("POST", f"{BUDGET}/limits", {**scene.filled(NEW), **body})
    assert answer.status == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert [detail["field"] for detail in error["details"]] == [field]


def test_the_documents_own_request(scene: Scene) -> None:
    body = {
        "name": "Daily Global Limit",
        "scope_type": "global",
        "scope_id": None,
        "amount_usd": 50.00,
        "period": "daily",
        "alert_threshold": 0.80,
        "action_on_exceed": "warn",
    }
    answer = scene.gateway.rest("POST", f"{BUDGET}/limits", body)
    assert answer.status == 201, answer.text
    made = answer.json()
    assert {name: made[name] for name in body} == body
    assert (made["unit"], made["spent"], made["reserved"]) == ("usd", 0.0, 0.0)
    listed = scene.gateway.rest("GET", f"{BUDGET}/limits?page=1&limit=100").json()
    assert made["id"] in [item["id"] for item in listed["items"]]
    assert {"items", "total", "page", "pages"} == set(listed)
    changed = scene.gateway.rest("PATCH", f"{BUDGET}/limits/{made['id']}", {"amount_usd": 60})
    assert (changed.status, changed.json()["amount_usd"]) == (200, 60.0)
    assert scene.gateway.rest("DELETE", f"{BUDGET}/limits/{made['id']}").status == 200
    for method, body_again in (("PATCH", {"amount_usd": 1}), ("DELETE", None)):
        assert scene.gateway.rest(method, f"{BUDGET}/limits/{made['id']}", body_again).status == 404


@pytest.mark.parametrize(
    "query",
    ["start_date=2026-02-02&end_date=2026-02-01", "start_date=1970-01-05&end_date=2026-01-01", "granularity=hour"],
)
def test_timelines_that_cannot_be_are_refused(scene: Scene, query: str) -> None:
    assert scene.gateway.rest("GET", f"{BUDGET}/timeline?{query}").status == 400


def test_without_a_credential_the_documents_word_is_said(scene: Scene) -> None:
    answer = exchange(f"{scene.gateway.url}{BUDGET}/summary")
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
