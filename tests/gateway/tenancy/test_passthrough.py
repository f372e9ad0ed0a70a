"""What reaches a server: the credential that is kept for it and its caller, and nothing that the caller sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gateway.mcp.door import MODERN
from tests.gateway.mcp.echo import Echo, echo
from tests.gateway.tenancy.house import House, two_organizations
from tests.support.attacks import attack
from tests.support.identity import add_key, add_user

CALLS = 200
SENT = {
    "Cookie": "gatehouse_session=ses_inbound; other=inbound",
    "Proxy-Authorization": "Basic inbound",
    "X-Upstream-Authorization": "Bearer inbound",
    "X-Forwarded-Authorization": "Bearer inbound",
    "X-MCP-Authorization": "Bearer inbound",
    "Authorization-Override": "Bearer inbound",
    "X-Session-Secret": "inbound",
}
"""What a caller might send in the hope that it goes on."""


@dataclass(frozen=True)
class Caller:
    """Args: tool: which it calls; secret: the only one that may come along."""

    key: str
    tool: str
    secret: str


@asynccontextmanager
async def callers(house: House, server: Echo) -> AsyncIterator[list[Caller]]:
    """Two organisations with a server of one name at one address, and two people with accounts at another."""
    door, app = house.door, house.door.app
    made: list[Caller] = []
    for key, secret in ((house.admin, "secret-of-one"), (house.other, "secret-of-two")):
        body = {"name": "vault", "base_url": server.url, "headers": {"Authorization": f"Bearer {secret}"}}
        assert (await door.rest("POST", "/v1/mcp/servers", body, key=key)).status == 201
        made.append(Caller(key, "vault__say", secret))
    shared = await door.rest("POST", "/v1/mcp/servers", {"name": "shared", "base_url": server.url}, key=house.admin)
    one = f"/v1/mcp/servers/{shared.json()['id']}"
    assert (await door.rest("PUT", f"{one}/login", {"kind": "static"}, key=house.admin)).status == 200
    for name in ("ada", "grace"):
        org_id = house.mine["org_id"]
        person = await add_user(app.database, app.ground.clock, org_id, f"{name}@acme.test", role="user")
        _, key = await add_key(app.database, app._services.identity, person)
        headers = {"headers": {"Authorization": f"Bearer secret-of-{name}"}}
        assert (await door.rest("PUT", f"{one}/account", headers, key=key)).status == 204
        made.append(Caller(key, "shared__say", f"secret-of-{name}"))
    yield made


async def call(house: House, caller: Caller, number: int) -> None:
    """Call over MCP or over REST, in turn."""
    arguments = {"number": number, "of": caller.secret}
    headers = {"Authorization": f"Bearer {caller.key}", "Content-Type": "application/json", **SENT}
    if number % 2:
        sent = json.dumps(arguments).encode()
        answer = await house.door.send("POST", f"/v1/tools/{caller.tool}", headers, sent)
    else:
        mirrored = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": caller.tool}
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "authorization": "Bearer inbound",
        }
        params = {"name": caller.tool, "arguments": arguments, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        headers |= {"Accept": "application/json, text/event-stream", **mirrored}
        answer = await house.door.send("POST", "/mcp", headers, json.dumps(body).encode())
    assert answer.status == 200, answer


@attack(16)
async def test_interleaved_calls_of_four_callers_each_bring_their_own_secret_and_nothing_else(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(echo())
        house = await stack.enter_async_context(two_organizations(tmp_path))
        four = await stack.enter_async_context(callers(house, server))
        assert server.listener is not None
        server.listener.requests.clear()
        await asyncio.gather(*(call(house, four[number % 4], number) for number in range(CALLS)))
        calls = [request for request in server.listener.requests if b'"tools/call"' in request]
        assert len(calls) == CALLS
        keys = [caller.key.encode() for caller in four]
        for request in calls:
            head, _, body = request.partition(b"\r\n\r\n")
            wanted = json.loads(body)["params"]["arguments"]["of"]
            lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
            brought = [value.strip() for name, _, value in lines if name.strip().lower() == b"authorization"]
            assert brought == [f"Bearer {wanted}".encode()], head
            assert b"inbound" not in head, head
            assert not [key for key in keys if key in request], request
            others = {caller.secret for caller in four} - {wanted}
            assert not [secret for secret in others if secret.encode() in request]

        # Nor is any of it in what anybody is told; records of calls do not keep arguments.
        told = [str(await house.ask(name, house.admin, own=house.mine)) for name in house.operations if "GET" in name]
        told += [str(await house.ask(name, house.other)) for name in house.operations if "GET" in name]
        assert len(told) > 100
        assert not [text for text in told for caller in four if caller.secret in text]
