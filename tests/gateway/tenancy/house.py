"""A gateway with two organisations: the first-run admin's, empty, and `Other`, which has one of each thing.

`operations` is every REST operation that the gateway itself describes, so that a new one is attacked without a word
here; what it needs to get as far as the ids in its path is in `BODIES`, and what those ids stand for in `House.ids`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.core.db import new_id
from registry.core.outbox import put
from registry.identity.models import LoginSession
from registry.oauth.models import OAuthGrant
from registry.workspaces.models import GitCredential, Workspace, WorkspaceEvent
from tests.gateway.mcp.door import Answer, Door, McpError, opened
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.support.identity import Person, add_key, add_organization, add_user

DAY = 86_400
MARK = "quetzal"
"""Part of every name in the other organisation, and of nothing else."""
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
UNKNOWN_NUMBER = 987_654_321
NOTHING: Mapping[str, Any] = {}
HOOK = {"name": "hook", "type": "webhook", "config": {"url": "http://127.0.0.1:9/in"}}
ALERT = {"type": "custom_alert", "severity": "info", "message": "It is odd."}

BODIES: dict[str, Any] = {
    "POST /api/v1/api-keys": {"name": "new"},
    "POST /api/v1/budget/limits": {"name": "new", "amount": 5, "unit": "calls"},
    "PATCH /api/v1/budget/limits/{limit_id}": {"amount": 70},
    "PUT /api/v1/budget/timezone": {"timezone": "UTC"},
    "POST /api/v1/emergency/pause-all": {"reason": "A test."},
    "POST /api/v1/mcp/invoke": {"tool": f"{MARK}__say", "arguments": {}},
    "PUT /api/v1/users/{user_id}": {"full_name": "Renamed"},
    "POST /api/v1/workspaces": {"name": "new"},
    "POST /v1/access/rules": {"name": "new", "effect": "deny", "pattern": "none__*"},
    "POST /v1/api-keys": {"name": "new"},
    "POST /v1/approvals/rules": {"name": "new", "tool": "none__*"},
    "POST /v1/approvals/{approval_id}/deny": {"reason": "no"},
    "POST /v1/auth/oidc/logout": {"post_logout_redirect_uri": "http://localhost:3000"},
    "POST /v1/auth/permissions/check": {"permissions": ["mcp:servers:read"]},
    "POST /v1/auth/second-factor/confirm": {"code": "000000"},
    "POST /v1/auth/second-factor/remove": {"code": "000000"},
    "POST /v1/mcp/servers": {"name": "new", "base_url": "http://127.0.0.1:9/mcp"},
    "POST /v1/mcp/servers/import": {"document": {"mcpServers": {}}},
    "POST /v1/mcp/servers/openapi": {"name": "new", "document": {"openapi": "3.1.0", "info": {}, "paths": {}}},
    "POST /v1/mcp/servers/register": {"name": "newer", "base_url": "http://127.0.0.1:9/mcp"},
    "PUT /v1/mcp/servers/{server_id}": {"description": "changed"},
    "PUT /v1/mcp/servers/{server_id}/account": {"headers": {"Authorization": "Bearer brought"}},
    "POST /v1/mcp/servers/{server_id}/capabilities/test": {"method": "tools/list"},
    "POST /v1/mcp/servers/{server_id}/health/alerts": ALERT,
    "PUT /v1/mcp/servers/{server_id}/health/config": {"retry_count": 1},
    "POST /v1/mcp/servers/{server_id}/health/notifications": HOOK,
    "PUT /v1/mcp/servers/{server_id}/login": {"kind": "static"},
    "PUT /v1/mcp/servers/{server_id}/tools/{tool}/price": {"price_usd": 0.01},
    "PUT /v1/notifications/channels/{channel_id}": {"name": "hooked"},
    "PUT /v1/organizations/{org_id}": {"description": "changed"},
    "POST /v1/notifications/channels": HOOK,
    "POST /v1/sets": {"slug": "new", "members": [{"server": "own"}]},
    "PUT /v1/sets/{slug}": {"name": "changed"},
    "POST /v1/teams": {"name": "new"},
    "PUT /v1/teams/{team_id}": {"description": "changed"},
    "PUT /v1/teams/{team_id}/members/{user_id}": {"role": "lead"},
    "POST /v1/workspaces/{workspace_id}/exec": {"command": ["true"]},
}
"""A body for each operation that takes one and would not look at an id without it."""


@dataclass(frozen=True)
class House:
    """Args:
    admin: a key of the empty organisation's admin.
    member, viewer: keys of people there without office.
    other: a key of the other organisation's admin.
    other_id: the other organisation's id.
    things: the other organisation's ids, by what they are of.
    mine: ids of the admin's own.
    """

    door: Door
    upstream: Echo
    another: Echo
    admin: str
    member: str
    viewer: str
    other: str
    other_id: str
    things: dict[str, Any]
    mine: dict[str, Any]
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ids(self, operation: str, *, known: bool = True, own: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
        """What the parameters in an operation's path stand for: the other organisation's things, or nothing.

        Args:
            own: things of the caller's that take their places.
        """
        path = operation.partition(" ")[2]
        found: dict[str, Any] = {}
        for name in re.findall(r"\{(\w+)\}", path):
            wanted = f"approval_{name}" if (name, "approvals" in path) == ("rule_id", True) else name
            wanted = f"tool_{name}" if name == "name" and path.startswith("/v1/tools") else wanted
            number = isinstance(self.things[wanted], int)
            found[name] = self.things[wanted] if known else UNKNOWN_NUMBER if number else UNKNOWN_ID
        return found | {name: value for name, value in own.items() if name in found}

    async def ask(
        self,
        operation: str,
        key: str,
        body: Any = None,
        *,
        known: bool = True,
        own: Mapping[str, Any] = NOTHING,
        query: str = "",
    ) -> tuple[int, Any]:
        """Status and body of an operation's answer, without what differs from request to request: id and time."""
        method, _, path = operation.partition(" ")
        path = path.format(**self.ids(operation, known=known, own=own))
        sent = body if body is not None else BODIES.get(operation)
        answer = await self.door.rest(method, f"{path}?{query}" if query else path, sent, key=key)
        return answer.status, _plain(answer)

    def blurred(self, value: Any) -> Any:
        """With one word in place of the other organisation's ids and names, and of the unknown ones."""
        text = json.dumps(value, default=str)
        names = {*map(str, self.things.values()), UNKNOWN_ID, str(UNKNOWN_NUMBER), MARK}
        for thing in sorted(names, key=len, reverse=True):
            text = text.replace(thing, "IT") if len(thing) > 3 else text.replace(f'"{thing}"', '"IT"')
        return text

    async def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored for the other organisation, by table."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        async with self.door.app.database.reading() as session:
            tables = (await session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))).scalars()
            for table in tables.all():
                rows = (await session.execute(text(f'SELECT * FROM "{table}"'))).all()
                ours = [tuple(row) for row in rows if self._concerns(row)]
                if ours:
                    found[table] = sorted(ours, key=repr)
        return found

    def hits(self) -> int:
        """Requests that have reached a server."""
        return sum(len(server.listener.requests) for server in (self.upstream, self.another) if server.listener)

    def _concerns(self, row: Any) -> bool:
        known = {self.other_id, *(value for value in self.things.values() if len(str(value)) == 36)}
        return any(value in known or MARK in str(value) for value in row)


def _plain(answer: Answer) -> Any:
    if not answer.body or not answer.headers.get("content-type", "").startswith("application/json"):
        return answer.body.decode(errors="replace")
    body = json.loads(answer.body)
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body["error"] |= {"timestamp": "", "request_id": ""}
        body["request_id"] = ""
    return body


@asynccontextmanager
async def two_organizations(tmp_path: Path, **settings: Any) -> AsyncIterator[House]:
    """The house, for the length of the block."""
    async with (
        echo(tools=[tool("say"), tool("pay")]) as upstream,
        echo() as another,
        opened(tmp_path / "data", workspace_runtime="off", catalog_ttl_seconds=DAY, **settings) as door,
    ):
        clock, database, identity = door.app.ground.clock, door.app.database, door.app._services.identity
        (mine,) = (await door.rest("GET", "/v1/organizations")).json()["organizations"]

        async def keyed(person: Person) -> str:
            # Whoever may not make keys themselves is given one.
            may = replace(person.principal, permissions=person.principal.permissions | {"keys:manage"})
            return (await add_key(database, identity, replace(person, principal=may)))[1]

        other_id = await add_organization(database, clock, MARK)
        boss = await add_user(database, clock, other_id, f"{MARK}@other.test", role="admin")
        other = await keyed(boss)
        things = {"org_id": other_id, "user_id": boss.user.id}
        house = House(
            door,
            upstream,
            another,
            door.admin,
            await keyed(await add_user(database, clock, mine["id"], "member@acme.test", role="user")),
            await keyed(await add_user(database, clock, mine["id"], "viewer@acme.test", role="viewer")),
            other,
            other_id,
            things,
            {"org_id": mine["id"]},
        )
        # An operator sees all organisations: the one who attacks is none.
        plain_admin = await add_user(database, clock, mine["id"], "boss@acme.test", role="admin")
        house = House(**{**house.__dict__, "admin": await keyed(plain_admin)})
        await _furnish(house, boss)
        own = await door.register("Own", another.url)
        await _unwatched(house, own["id"], house.admin)
        team = (await door.rest("POST", "/v1/teams", {"name": "own"})).json()
        house.mine.update(server_id=own["id"], team_id=team["id"], user_id=plain_admin.user.id)
        description = (await door.rest("GET", "/api/v1/openapi.json")).json()
        for path, methods in description["paths"].items():
            house.operations.update({f"{method.upper()} {path}": told for method, told in methods.items()})
        yield house


async def _unwatched(house: House, server_id: str, key: str) -> None:
    """Nothing is to ask a server, or to write of it, but for what a test does."""
    answer = await house.door.rest("PUT", f"/v1/mcp/servers/{server_id}/health/config", {"enabled": False}, key=key)
    assert answer.status == 200, answer.body


async def _furnish(house: House, boss: Person) -> None:
    things, door = house.things, house.door

    async def made(path: str, body: dict[str, Any]) -> Any:
        answer = await door.rest("POST", path, body, key=house.other)
        assert answer.status == 201, (path, answer.body)
        return answer.json()

    server = await made("/v1/mcp/servers", {"name": MARK, "base_url": house.upstream.url})
    one = f"/v1/mcp/servers/{server['id']}"
    await _unwatched(house, server["id"], house.other)
    things |= {"server_id": server["id"], "slug": MARK, "tool": "say", "tool_name": f"{MARK}__say", "version": "1"}
    things["alert_id"] = (await made(f"{one}/health/alerts", ALERT | {"message": MARK}))["id"]
    things["channel_id"] = (await made(f"{one}/health/notifications", HOOK | {"name": MARK}))["id"]
    assert (await door.rest("PUT", f"{one}/login", {"kind": "static"}, key=house.other)).status == 200
    things["key_id"] = (await made("/v1/api-keys", {"name": MARK}))["id"]
    limit = {"name": MARK, "amount": 1_000_000, "unit": "calls"}
    things["limit_id"] = (await made("/api/v1/budget/limits", limit))["id"]
    things["team_id"] = (await made("/v1/teams", {"name": MARK}))["id"]
    members = f"/v1/teams/{things['team_id']}/members/{things['user_id']}"
    assert (await door.rest("PUT", members, {"role": "lead"}, key=house.other)).status == 200
    rule = {"name": MARK, "effect": "deny", "pattern": "none__*"}
    things["rule_id"] = (await made("/v1/access/rules", rule))["id"]
    await made("/v1/sets", {"slug": MARK, "name": MARK, "members": [{"server": MARK}]})
    held = {"name": MARK, "tool": f"{MARK}__pay"}
    things["approval_rule_id"] = (await made("/v1/approvals/rules", held))["id"]
    with pytest.raises(McpError) as waits:
        await door.modern("/mcp", house.other).call(f"{MARK}__pay", {"to": MARK})
    assert waits.value.code == -31005
    listed = (await door.rest("GET", "/v1/approvals", key=house.other)).json()["approvals"]
    things["approval_id"] = listed[0]["id"]
    house.upstream.tools[0]["description"] = f"{MARK} said otherwise"
    assert (await door.rest("POST", f"{one}/capabilities/discover", key=house.other)).status == 200
    things["pin_id"] = (await door.rest("GET", f"{one}/pins", key=house.other)).json()["pins"][0]["id"]
    (published,) = (await door.rest("GET", "/v0.1/servers", key=house.other)).json()["servers"]
    things["name"] = published["server"]["name"]
    await _stored(house, boss)


async def _stored(house: House, boss: Person) -> None:
    """What no request makes by itself here: work behind requests, a workspace without an engine, an application."""
    now, org_id, user_id = house.door.app.ground.clock.now(), boss.user.org_id, boss.user.id
    async with house.door.app.database.transaction() as session:
        house.things["job_id"] = await put(session, "none", {"of": MARK}, org_id=org_id, now=now)
        times = {"created_at": now, "updated_at": now, "used_at": now}
        workspace = Workspace(org_id=org_id, user_id=user_id, name=MARK, slug=f"{MARK}-box", status="inactive",
                              container_status="stopped", network="none", **times)  # fmt: skip
        session.add(workspace)
        await session.flush()
        house.things["workspace_id"] = workspace.id
        session.add(WorkspaceEvent(workspace_id=workspace.id, at=now, kind="made", message=MARK))
        grant = OAuthGrant(id=new_id(), org_id=org_id, user_id=user_id, client_id=MARK, client_name=MARK, scopes=[],
                           audience="/mcp", created_at=now, expires_at=now + timedelta(days=1))  # fmt: skip
        session.add(grant)
        house.things["grant_id"] = grant.id
        stay = LoginSession(id=new_id(), user_id=user_id, token_hash=MARK, created_at=now, last_seen_at=now,
                            expires_at=now + timedelta(days=1))  # fmt: skip
        session.add(stay)
        house.things["session_id"] = stay.id
        shown = GitCredential(id=new_id(), user_id=user_id, origin=f"https://{MARK}.test", username=MARK, sealed=MARK,
                              updated_at=now)  # fmt: skip
        session.add(shown)
        house.things["credential_id"] = shown.id


def dumped(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()
