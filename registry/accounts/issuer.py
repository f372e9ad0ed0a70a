"""What the gateway asks of a server's authorization server, as its client: metadata, registration, tokens.

Sources: RFC 9728, 8414, 7591, 6749, 8707; MCP specification 2026-07-28, basic/authorization. Every address comes from
a stranger, so each is vetted, and credentials go to the issuer that they belong to only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote, urlsplit

from registry.accounts.errors import IssuerRefused
from registry.core.egress import EgressClient, vet_url
from registry.core.errors import GatehouseError

SECONDS = 10.0
MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave. `expires_in` is in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: float | None


class IssuerClient:
    def __init__(self, egress: EgressClient) -> None:
        self._egress = egress

    async def issuer_of(self, server_url: str) -> str:
        """The authorization server that a server names (RFC 9728). Raises `IssuerRefused`."""
        parts = urlsplit(server_url)
        origin = f"{parts.scheme}://{parts.netloc}"
        well_known = f"{origin}/.well-known/oauth-protected-resource"
        for url in dict.fromkeys((well_known + parts.path.rstrip("/"), well_known)):
            said = await self._get(url)
            named = said.get("authorization_servers") if said else None
            if said is not None and isinstance(named, list) and named:
                resource = str(said.get("resource", "")).rstrip("/")
                if not (server_url.rstrip("/") + "/").startswith(resource + "/"):
                    raise IssuerRefused("The server's metadata is another resource's.")
                return str(cast("list[Any]", named)[0])
        raise IssuerRefused("The server does not say who issues its tokens: give the issuer.")

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

    async def register(self, metadata: Mapping[str, Any], redirect_uri: str) -> tuple[str, str | None]:
        """Become a client (RFC 7591): the client id, and a secret if there is one. Raises `IssuerRefused`."""
        if "registration_endpoint" not in metadata:
            raise IssuerRefused("The issuer registers no clients by itself: give client_id.")
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        wanted = ("client_secret_basic", "client_secret_post", "none")
        about: dict[str, Any] = {
            "client_name": "Gatehouse",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "application_type": "web",
            "token_endpoint_auth_method": next((method for method in wanted if method in methods), "none"),
        }
        said = await self._ask("POST", metadata["registration_endpoint"], json=about)
        if said is None or not isinstance(said.get("client_id"), str):
            raise IssuerRefused("The issuer did not register the gateway.")
        secret = said.get("client_secret")
        return said["client_id"], secret if isinstance(secret, str) else None

    async def tokens(
        self, endpoints: Mapping[str, Any], client_id: str, secret: str | None, form: Mapping[str, str]
    ) -> Tokens | None:
        """Ask the token endpoint; `None` if it refuses. Raises `IssuerRefused` if it cannot be asked."""
        sent, headers = dict(form), dict[str, str]()
        methods = endpoints.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret is not None and "client_secret_basic" in methods:
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            sent["client_id"] = client_id
            if secret is not None:
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


def _vet(issuer: str, url: object) -> None:
    try:
        vet_url(str(url), schemes=("https",) if issuer.startswith("https:") else ("http", "https"))
    except GatehouseError as error:
        raise IssuerRefused(f"An address of the issuer's is not usable: {error.message}") from None
