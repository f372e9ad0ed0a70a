"""Clients known by a document of theirs: read over TLS from where they are, and believed as far as it is proved."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from aiohttp import web

from registry.core.egress import Egress, EgressPolicy
from registry.oauth.documents import KEPT_SECONDS, MAX_BYTES, ClientDocuments
from registry.oauth.errors import ClientUnknown
from tests.support.clock import SettableClock

CALLBACK = "http://127.0.0.1/callback"


class Site:
    """A client's site, with one document."""

    def __init__(self) -> None:
        self.url = ""
        self.answer = web.Response()
        self.asked = 0

    def show(self, **changes: Any) -> None:
        document = {"client_id": self.url, "client_name": "Editor", "redirect_uris": [CALLBACK]} | changes
        self.answer = web.json_response(document)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.answer.body, status=self.answer.status, headers=self.answer.headers)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[Site]:
    site = Site()
    application = web.Application()
    application.router.add_get("/{path:.*}", site.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    site.url = f"https://client.example:{runner.addresses[0][1]}/gatehouse.json"
    site.show()
    try:
        yield site
    finally:
        await runner.cleanup()


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def place(clock: SettableClock) -> AsyncIterator[tuple[Site, ClientDocuments]]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("client.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    egress = Egress(EgressPolicy(local_mode=True), lookup=lookup, tls=lambda: client)
    async with serving(server) as site:
        yield site, ClientDocuments(egress.client, clock)
    await egress.close()


async def test_a_client_is_what_its_document_says(place: tuple[Site, ClientDocuments], clock: SettableClock) -> None:
    site, documents = place
    client = await documents.client(site.url)
    assert (client.client_id, client.name, client.redirect_uris) == (site.url, "Editor", (CALLBACK,))
    assert (client.host, client.auth_method) == ("client.example", "none")
    await documents.client(site.url)
    assert site.asked == 1
    clock.advance(KEPT_SECONDS)
    site.show(client_name="Writer")
    assert (await documents.client(site.url)).name == "Writer"


async def test_documents_that_are_not_believed(place: tuple[Site, ClientDocuments]) -> None:
    site, documents = place
    for changes in (
        {"client_id": "https://other.example/gatehouse.json"},
        {"redirect_uris": []},
        {"redirect_uris": ["http://evil.example/"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": "x"},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"client_name": 1},
    ):
        site.show(**changes)
        with pytest.raises(ClientUnknown):
            await documents.client(site.url)
    for answer in (
        web.Response(status=404),
        web.Response(text="no json"),
        web.Response(status=302, headers={"Location": site.url + "x"}),
        web.Response(text=json.dumps({"client_id": site.url, "redirect_uris": [CALLBACK], "x": "x" * MAX_BYTES})),
    ):
        site.answer = answer
        with pytest.raises(ClientUnknown):
            await documents.client(site.url)


async def test_addresses_that_are_not_asked(place: tuple[Site, ClientDocuments]) -> None:
    site, documents = place
    port = site.url.rpartition(":")[2].partition("/")[0]
    for address in (
        f"https://client.example:{port}/",
        f"https://client.example:{port}",
        f"https://client.example:{port}/a/../b",
        f"https://user:word@client.example:{port}/x",
        f"https://client.example:{port}/x#y",
    ):
        with pytest.raises(ClientUnknown):
            await documents.client(address)
    assert site.asked == 0


async def test_private_addresses_are_not_asked_where_others_may_come_from() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["169.254.169.254"] if host == "meta.example" else ["127.0.0.1"]

    egress = Egress(EgressPolicy(), lookup=lookup)
    documents = ClientDocuments(egress.client, SettableClock())
    for host in ("client.example", "meta.example"):
        with pytest.raises(ClientUnknown):
            await documents.client(f"https://{host}/gatehouse.json")
    await egress.close()
