"""The client under test where the suite's server asks for a token: the gateway, a person with a browser, a client.

An administrator registers that server with a login, which the gateway completes by itself. A person connects an
account, as often as the gateway asks for it, and uses the server through the gateway with the SDK's client. What the
suite then sees of an OAuth client is the gateway's. Where the gateway refuses to go on, so does this client.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.gateway.auth.browser import Browser, browser
from tests.support.gateway import RunningGateway

TIMEOUT_SECONDS = 40.0
PATIENCE = 8
"""How often the person does what the gateway asks: more often than a client may let itself be sent."""
DOCUMENT = "https://conformance-test.local/client-metadata.json"
"""The client id that the suite expects of a client that has a document of its own."""
GIVEN = {
    "client_id": "client_id",
    "client_secret": "client_secret",
    "private_key_pem": "private_key",
    "issuer": "issuer",
}
"""What the suite may hand out, and what it is called here."""


class GaveUp(Exception):
    """The gateway refused to go on."""


def login_of(scenario: str, context: dict[str, Any]) -> dict[str, Any]:
    """What an administrator says of the server's login: what the suite hands out, and nothing else."""
    kind = "client_credentials" if scenario.startswith("auth/client-credentials") else "authorization_code"
    known = {ours: context[theirs] for theirs, ours in GIVEN.items() if theirs in context}
    return {"kind": kind, **({"client_id": DOCUMENT} if scenario == "auth/basic-cimd" else {}), **known}


class Person:
    """Args:
    server_id: of the server at which the person has an account.
    """

    def __init__(self, seat: Browser, server_id: str) -> None:
        self.seat = seat
        self.path = f"/v1/mcp/servers/{server_id}/connect"

    async def connect(self) -> None:
        """Go to the issuer and come back."""
        page = await self.seat.open(self.path)
        if page.status not in (302, 303):
            raise GaveUp(f"not sent to the issuer: {page}")
        async with self.seat.http.get(page.url, allow_redirects=False) as consent:
            back = consent.headers["Location"]
        page = await self.seat.open(back)
        if page.status != 200:
            raise GaveUp(page.text)

    async def served(self, client: Client) -> str:
        """Use a tool, connecting whenever the gateway says that it needs that."""
        for _ in range(PATIENCE):
            try:
                return str(await client.call_tool("test-tool", {}))
            except MCPError as error:
                if self.path not in str(error):
                    raise GaveUp(str(error)) from None
                await self.connect()
        raise GaveUp("the gateway asks for ever")


class Clients:
    """The clients of a running gateway, each with a server and a person of its own."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._url, self._key, self._admin = gateway.url, gateway.admin_key, gateway.first_run()
        self._numbers = count(1)

    async def run(self, url: str, scenario: str, version: str, context: dict[str, Any]) -> str:
        """Sign in at a server and use it twice. Raises `GaveUp`."""
        headers = {"Authorization": f"Bearer {self._key}"}
        http = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS, base_url=self._url)
        async with http, browser(self._url) as seat:
            name = f"suite-{next(self._numbers)}"
            made = await http.post("/v1/mcp/servers", json={"name": name, "base_url": url})
            server = made.raise_for_status().json()
            path = f"/v1/mcp/servers/{server['id']}"
            try:
                answer = await http.put(f"{path}/login", json=login_of(scenario, context))
                if answer.status_code != 200:
                    raise GaveUp(answer.text)
                await seat.sign_in(self._admin["admin_email"], self._admin["admin_password"])
                person = Person(seat, server["id"])
                if answer.json()["kind"] == "authorization_code":
                    await person.connect()
                found = (await http.post(f"{path}/capabilities/discover")).json()
                for _ in range(PATIENCE):
                    if "credentials" not in str(found["warnings"] + found["errors"]):
                        break
                    # What was good when the person came back is refused already.
                    await person.connect()
                    found = (await http.post(f"{path}/capabilities/discover")).json()
                mode: Any = version if version in MODERN_PROTOCOL_VERSIONS else "legacy"
                transport = streamable_http_client(f"{self._url}/servers/{server['slug']}/mcp", http_client=http)
                async with Client(transport, mode=mode) as client:
                    return "\n".join((str(found), await person.served(client), await person.served(client)))
            finally:
                (await http.delete(path)).raise_for_status()


@asynccontextmanager
async def answering(gateway: RunningGateway, place: Path) -> AsyncIterator[None]:
    """Be the client of whoever knocks at the socket."""
    clients = Clients(gateway)

    async def knocked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        try:
            said = f"{await clients.run(**asked)}\ndone"
        except GaveUp as error:
            said = f"gave up: {error}"
        except Exception:
            said = traceback.format_exc()
        writer.write(f"{said}\n".encode())
        writer.close()

    async with await asyncio.start_unix_server(knocked, place):
        yield
