"""What the gateway asks of a server and of its authorization server, as their client: metadata, registration, tokens.

Sources: RFC 9728, 8414, 7591, 6749, 8707; MCP specification 2026-07-28, basic/authorization. Every address comes from
a stranger, so each is vetted, and credentials go to the issuer that they belong to only. `finding` decides with it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

from registry.accounts import challenge
from registry.accounts.challenge import Challenge
from registry.accounts.errors import IssuerRefused
from registry.core.egress import EgressClient, vet_url
from registry.core.errors import GatehouseError

SECONDS = 10.0
MAX_BYTES = 256 * 1024
_LOOK: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
"""Changes nothing, and needs a token where anything does; opening a session may not."""
_LOOK_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/list",
}


@dataclass(frozen=True, slots=True)
class Resource:
    """What a server says of itself (RFC 9728).

    Args:
        identifier: tokens are asked for with it, to the letter.
        scope: what to ask for; empty where the server does not say.
    """

    issuer: str
    identifier: str
    scope: str


@dataclass(frozen=True, slots=True)
class Registration:
    """The gateway as a client of an issuer's. `method` authenticates it at the token endpoint."""

    client_id: str
    secret: str | None = field(repr=False)
    method: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave. `expires_in` is in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: float | None


class IssuerClient:
    def __init__(self, egress: EgressClient) -> None:
        self._egress = egress

    async def resource(self, server_url: str, *, posts: bool) -> Resource | None:
        """What a server says of its tokens; `None` if it says nothing.

        Args:
            posts: it takes MCP messages by POST at this address.

        Raises:
            IssuerRefused: what is said there is of another server.
        """
        asked = await self._challenge(server_url, posts=posts)
        parts = urlsplit(server_url)
        well_known = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource"
        named = [asked.resource_metadata] if asked.resource_metadata else []
        for url in named:
            _vet(server_url, url)
        for url in dict.fromkeys((*named, well_known + parts.path.rstrip("/"), well_known)):
            said = await self._get(url)
            issuers = said.get("authorization_servers") if said else None
            if said is None or not isinstance(issuers, list) or not issuers:
                continue
            identifier = str(said.get("resource", ""))
            if not (server_url.rstrip("/") + "/").startswith(identifier.rstrip("/") + "/"):
                raise IssuerRefused("The server's metadata is another resource's.")
            supported: Any = said.get("scopes_supported")
            every = " ".join(str(scope) for scope in supported) if isinstance(supported, list) else ""  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            return Resource(str(cast("list[Any]", issuers)[0]), identifier, asked.scope or challenge.scopes(every))
        return None

    async def _challenge(self, server_url: str, *, posts: bool) -> Challenge:
        """What the server answers to who has no token."""
        method = "POST" if posts else "GET"
        headers = _LOOK_HEADERS if posts else {"Accept": "*/*"}
        body = _LOOK if posts else None
        try:
            # Only the head is read: a server that asks for no token may answer with a stream that does not end.
            async with self._egress.stream(method, server_url, headers=headers, json=body, timeout=SECONDS) as answer:
                said = answer.headers.get("WWW-Authenticate", "") if answer.status == 401 else ""
        except GatehouseError:
            return Challenge()
        return challenge.read(said)

    async def metadata(self, issuer: str) -> dict[str, Any]:
        """What an issuer says of itself, by RFC 8414 or OpenID Connect. Raises `IssuerRefused`."""
        parts = urlsplit(issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        for url in (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}/.well-known/openid-configuration{path}",
            f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        ):
            said = await self._get(url)
            if said is not None:
                if str(said.get("issuer", "")) != issuer:
                    raise IssuerRefused("The issuer's metadata names another issuer.")
                for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint"):
                    if name in said:
                        _vet(issuer, said[name])
                return said
        raise IssuerRefused("The issuer has no metadata.")

    async def register(self, metadata: Mapping[str, Any], redirect_uri: str) -> Registration:
        """Become a client (RFC 7591). Raises `IssuerRefused`."""
        if "registration_endpoint" not in metadata:
            raise IssuerRefused("The issuer registers no clients by itself: give client_id.")
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        wanted = ("client_secret_basic", "client_secret_post", "none")
        method = next((method for method in wanted if method in methods), "none")
        about = {**about_us(redirect_uri), "token_endpoint_auth_method": method}
        said = await self._ask("POST", metadata["registration_endpoint"], json=about)
        if said is None or not isinstance(said.get("client_id"), str):
            raise IssuerRefused("The issuer did not register the gateway.")
        secret, given = said.get("client_secret"), said.get("token_endpoint_auth_method")
        method = given if given in wanted else method
        return Registration(said["client_id"], secret if isinstance(secret, str) else None, method)

    async def tokens(
        self, endpoints: Mapping[str, Any], client_id: str, secret: str | None, form: Mapping[str, str]
    ) -> Tokens | None:
        """Ask the token endpoint; `None` if it refuses. Raises `IssuerRefused` if it cannot be asked."""
        sent, headers = dict(form), dict[str, str]()
        method = endpoints.get("token_endpoint_auth_method", "client_secret_basic")
        if secret is not None and method == "client_secret_basic":
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            sent["client_id"] = client_id
            if secret is not None and method != "none":
                sent["client_secret"] = secret
        said = await self._ask("POST", endpoints["token_endpoint"], headers=headers, form=sent)
        token = said.get("access_token") if said else None
        if said is None or not isinstance(token, str) or str(said.get("token_type", "")).lower() != "bearer":
            return None
        following, seconds = said.get("refresh_token"), said.get("expires_in")
        return Tokens(
            token,
            following if isinstance(following, str) else None,
            float(seconds) if isinstance(seconds, int | float) else None,
        )

    async def _get(self, url: str) -> dict[str, Any] | None:
        return await self._ask("GET", url)

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> dict[str, Any] | None:
        try:
            answer = await self._egress.request(
                method,
                url,
                headers={"Accept": "application/json", **(headers or {})},
                data=form,
                json=json,
                timeout=SECONDS,
                max_bytes=MAX_BYTES,
            )
            said = answer.json() if answer.ok else None
        except GatehouseError as error:
            raise IssuerRefused(f"The issuer cannot be asked: {error.message}") from None
        return cast("dict[str, Any]", said) if isinstance(said, dict) else None


def about_us(redirect_uri: str) -> dict[str, Any]:
    """What the gateway says of itself as a client (RFC 7591)."""
    return {
        "client_name": "Gatehouse",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "web",
    }


def _vet(issuer: str, url: object) -> None:
    try:
        vet_url(str(url), schemes=("https",) if issuer.startswith("https:") else ("http", "https"))
    except GatehouseError as error:
        raise IssuerRefused(f"An address of the issuer's is not usable: {error.message}") from None
