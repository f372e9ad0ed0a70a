"""A gateway with a server `echo` behind it, whose `pay` waits for a person, and things that a test may use up."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

import pytest

from gateway.cli import main
from tests.e2e.wire import McpError, Modern
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.gateway.safety.operations import ALERT, APPROVALS, BUDGET, CHANNELS, EMERGENCY, HOOK, RULES, TEAMS
from tests.support.gateway import RunningGateway, new_key

OWN = ("keys.create", "pins.hold", "approvals.ask", "approvals.use", "budgets.limits.alert")
"""Entries that a scene leaves by itself, at any time."""
_MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "rule": (f"{APPROVALS}/rules", {"name": "unused", "tool": "none__*"}),
    "limit": (f"{BUDGET}/limits", {"name": "large", "amount": 1_000_000, "unit": "calls"}),
    "team": (TEAMS, {"name": "team-{number}"}),
    "alert": ("/v1/mcp/servers/{server}/health/alerts", ALERT),
    "channel": (CHANNELS, HOOK),
    "access": (RULES, {"name": "unused", "effect": "deny", "pattern": "none__*"}),
}
"""What a placeholder stands for, and how it is made."""
_JOB = """INSERT INTO outbox (id, org_id, topic, payload, status, attempts, due_at, created_at)
    SELECT :id, org_id, 'none', '{{}}', '{}', 1, created_at, created_at FROM users LIMIT 1"""
_STORED = {
    "job": _JOB.format("waiting"),
    "dead": _JOB.format("dead"),
    "member": """INSERT INTO users (id, org_id, email, name, role, email_verified, is_active, is_operator, created_at,
        updated_at) SELECT :id, org_id, :id || '@acme.test', 'Max', 'agent', 1, 1, 0, created_at, updated_at
        FROM users LIMIT 1""",
    "grant": """INSERT INTO oauth_grants (id, org_id, user_id, client_id, client_name, scopes, audience, created_at,
        expires_at) SELECT :id, org_id, id, 'editor', 'Editor', '[]', '/mcp', created_at, '2999-01-01 00:00:00.000000'
        FROM users ORDER BY created_at, is_operator DESC LIMIT 1""",
}
"""How what a placeholder stands for is written."""


T = TypeVar("T")


class InThread(Generic[T]):
    """What serves in a loop, in a thread of its own, for tests that wait for processes."""

    def __init__(self, made: AbstractAsyncContextManager[T]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._made = made

    def __enter__(self) -> T:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._made.__aenter__(), self._loop).result(10)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._made.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Upstream(InThread[Echo]):
    """An echo server."""

    def __init__(self) -> None:
        super().__init__(echo(tools=[tool("say"), tool("pay")]))


@dataclass(frozen=True)
class Scene:
    gateway: RunningGateway
    upstream: Echo
    server: str
    names: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=count)
    keys: dict[frozenset[str], str] = field(default_factory=dict)

    def made(self, path: str, body: dict[str, Any]) -> str:
        """The id of what the admin makes."""
        answer = self.gateway.rest("POST", self.filled(path), self.filled(body))
        assert answer.status == 201, answer.text
        return str(answer.json()["id"])

    def key(self, permissions: Iterable[str]) -> str:
        """A key with just these permissions."""
        wanted = frozenset(permissions)
        if wanted not in self.keys:
            self.keys[wanted] = new_key(self.gateway, f"key-{len(self.keys)}", permissions=sorted(wanted))
        return self.keys[wanted]

    def filled(self, value: Any) -> Any:
        """The placeholders of an operation, filled in."""
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, dict):
            return {name: self.filled(part) for name, part in value.items()}
        return tuple(map(self.filled, value)) if isinstance(value, tuple) else value

    def command(self, key: str, *words: str) -> int:
        """The exit code of a command, run in this process: how it starts as one of its own is shown elsewhere."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GATEHOUSE_URL", self.gateway.url)
            patch.setenv("GATEHOUSE_API_KEY", key)
            patch.setenv("GATEHOUSE_DATA_DIR", str(self.gateway.data_dir))
            patch.setattr(sys, "argv", ["gatehouse", *words])
            with pytest.raises(SystemExit) as left:
                main()
        code = left.value.code
        assert isinstance(code, int)
        return code

    def audited(self) -> list[str]:
        """The action of every entry that somebody's doing left, in order."""
        with sqlite3.connect(self.gateway.data_dir / "gatehouse.db") as database:
            rows = database.execute("SELECT action FROM audit_entries ORDER BY rowid").fetchall()
        return [action for (action,) in rows if action not in OWN]

    def furnished(self, text: str) -> Scene:
        """With what the placeholders of `text` name, made anew: a test may use it up."""
        number = next(self.numbers)
        assert self.upstream.listener is not None
        hook = f"{self.upstream.listener.url}in"
        names = {"number": str(number), "server": self.server, "tool": "echo__say", "hook": hook}
        scene = Scene(self.gateway, self.upstream, self.server, names, self.numbers, self.keys)
        if "{user}" in text:
            names["user"] = str(self.gateway.rest("GET", "/v1/api-keys").json()["api_keys"][0]["user_id"])
        if "{pin}" in text:
            names["pin"] = scene._held(number)
        if "{approval}" in text:
            names["approval"] = scene._waiting(number)
        for name, made in _STORED.items():
            if f"{{{name}}}" in text:
                names[name] = scene._stored(made)
        if "{org}" in text:
            names["org"] = str(self.gateway.rest("GET", "/v1/organizations").json()["organizations"][0]["id"])
        if "{vault}" in text:
            names["vault"] = scene.made(
                "/v1/mcp/servers", {"name": f"vault-{number}", "base_url": "http://127.0.0.1:9"}
            )
        if "{portal}" in text:
            names["portal"] = scene._portal(number)
        if "{session}" in text:
            names["session"] = scene._signed_in()
        for name, (path, body) in _MADE.items():
            if f"{{{name}}}" in text:
                names[name] = scene.made(path, body)
        return scene

    def _stored(self, statement: str) -> str:
        """The id of a row that is written past the gateway: what it makes only after a while, or of other people."""
        identifier = uuid.uuid4()
        with sqlite3.connect(self.gateway.data_dir / "gatehouse.db", timeout=30) as database:
            database.execute(statement, {"id": identifier.hex})
        return str(identifier)

    def _portal(self, number: int) -> str:
        """The id of a server at which people connect accounts; nobody asks its issuer."""
        made = self.made("/v1/mcp/servers", {"name": f"portal-{number}", "base_url": "http://127.0.0.1:9"})
        statement = """INSERT INTO server_logins (server_id, kind, issuer, client_id, scope, endpoints, updated_at)
            SELECT id, 'authorization_code', 'http://127.0.0.1:9', 'here', '', '{}', created_at FROM servers
            WHERE id = :id"""
        with sqlite3.connect(self.gateway.data_dir / "gatehouse.db", timeout=30) as database:
            database.execute(statement, {"id": uuid.UUID(made).hex})
        return made

    def _signed_in(self) -> str:
        first = self.gateway.first_run()
        body = {"email": first["admin_email"], "password": first["admin_password"]}
        assert self.gateway.rest("POST", "/v1/auth/login", body).status == 200
        return str(self.gateway.rest("GET", "/v1/auth/sessions").json()["sessions"][0]["id"])

    def _held(self, number: int) -> str:
        self.upstream.tools[0]["description"] = f"the {number}th"
        found = self.gateway.rest("POST", f"/v1/mcp/servers/{self.server}/capabilities/discover")
        assert found.status == 200, found.text
        (pin,) = self.gateway.rest("GET", f"/v1/mcp/servers/{self.server}/pins").json()["pins"]
        return str(pin["id"])

    def _waiting(self, number: int) -> str:
        client = Modern(f"{self.gateway.url}/mcp", self.gateway.agent_key)
        with pytest.raises(McpError) as waits:
            client.result("tools/call", {"name": "echo__pay", "arguments": {"number": number}})
        assert waits.value.code == -31005
        waiting = self.gateway.rest("GET", APPROVALS).json()["approvals"]
        (approval,) = [row for row in waiting if json.loads(row["arguments"]) == {"number": number}]
        return str(approval["id"])

    def resume(self) -> None:
        answer = self.gateway.rest("POST", f"{EMERGENCY}/resume-all")
        assert answer.status == 200, answer.text
