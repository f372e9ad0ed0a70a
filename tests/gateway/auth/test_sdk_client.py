"""The Python SDK's own OAuth client: from the first 401, over a person's consent, to a tool call."""

from __future__ import annotations

from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.gateway.auth.browser import Browser, Page, admin_of, browser
from tests.gateway.conftest import Running

CALLBACK = "http://127.0.0.1:33418/callback"


class Storage:
    """What the SDK's client keeps."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person:
    """Answers the SDK's client as a person would: signs in, reads the page, allows it."""

    def __init__(self, browser: Browser, email: str, password: str) -> None:
        self.browser = browser
        self.email = email
        self.password = password
        self.asked: list[Page] = []
        self._sent = Page("", 0, "", {})

    async def visit(self, url: str) -> None:
        page = await self.browser.open(url)
        if page.url.startswith(f"{self.browser.base}/login"):
            page = await self.browser.sign_in(self.email, self.password, page.field("next"))
        assert page.status == 200, page.text
        self.asked.append(page)
        self._sent = await self.browser.submit("/oauth/consent", {"wish": page.field("wish"), "answer": "allow"})

    async def come_back(self) -> AuthorizationCodeResult:
        assert self._sent.url.startswith(CALLBACK), self._sent
        query = self._sent.query
        return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])


def provider(url: str, storage: Storage, person: Person) -> OAuthClientProvider:
    metadata = OAuthClientMetadata(client_name="Editor", redirect_uris=[CALLBACK], grant_types=["authorization_code"])
    return OAuthClientProvider(url, metadata, storage, person.visit, person.come_back)


async def called(url: str, auth: OAuthClientProvider, mode: str) -> bool:
    async with httpx2.AsyncClient(auth=auth, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            told = await client.call_tool("gatehouse__servers_list", {})
    return not told.is_error


async def test_it_signs_in_calls_refreshes_and_is_shut_out(gateway: Running, tmp_path: Path) -> None:
    url, storage = f"{gateway.url}/mcp", Storage()
    async with browser(gateway.url) as opened:
        person = Person(opened, *admin_of(tmp_path / "data"))
        auth = provider(url, storage, person)
        assert await called(url, auth, "auto")
        assert "Editor" in person.asked[0].text
        assert "Call tools." in person.asked[0].text
        first = storage.tokens
        assert first is not None
        assert first.access_token.startswith("oat_")

        # An expired token is refreshed without asking anybody.
        auth.context.token_expiry_time = 1.0
        assert await called(url, auth, "legacy")
        assert len(person.asked) == 1
        assert storage.tokens is not None
        assert storage.tokens.refresh_token != first.refresh_token

        # What the person takes back is gone at the next request; the client asks again.
        status, body = await gateway.rest("GET", "/v1/auth/grants")
        (grant,) = body["grants"]
        assert (grant["client_name"], grant["address"]) == ("Editor", "/mcp")
        status, _ = await gateway.rest("DELETE", f"/v1/auth/grants/{grant['id']}")
        assert status == 204
        assert await called(url, provider(url, storage, person), "auto")
        assert len(person.asked) == 2
