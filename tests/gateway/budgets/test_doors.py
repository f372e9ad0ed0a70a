"""Budgets at their doors: what is refused and how, and the documents' own requests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.gateway import RunningGateway, exchange
from tests.support.servers.notes import NotesServer

BUDGET = "/api/v1/budget"
READ, MANAGE = "budgets:read", "budgets:manage"
NEW = {"name": "new", "amount": 5, "unit": "calls", "scope_type": "user", "scope_id": "{user}"}


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
