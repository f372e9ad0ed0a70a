"""Finds out what is not said of a server's login: its issuer, the gateway's client id there, and the scope to ask for.

Source: MCP specification 2026-07-28, basic/authorization. It stores nothing; `service` keeps what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from registry.accounts import challenge
from registry.accounts.errors import AccountInvalid, IssuerRefused
from registry.accounts.issuer import IssuerClient, Registration, Resource
from registry.accounts.models import ServerLogin
from registry.servers.models import Server

CLIENT_PATH = "/v1/mcp/connect/client.json"
"""Where the gateway's own document as a client is; its address is a client id."""
_OFFLINE = "offline_access"


class Finder:
    def __init__(self, issuers: IssuerClient) -> None:
        self._issuers = issuers

    async def fill(
        self, login: ServerLogin, server: Server, issuer: str | None, secret: str | None, redirect_uri: str
    ) -> str | None:
        """Complete a login whose kind and perhaps client id are set; gives the client's secret, if there is one.

        Args:
            issuer, secret: as an administrator said, if anything.

        Raises:
            AccountInvalid, IssuerRefused: the issuer is not one that can be used.
        """
        resource = await self.resource(server)
        metadata = await self._metadata(server, issuer, resource)
        login.issuer = str(metadata["issuer"])
        if login.kind == "authorization_code":
            _require_pkce(metadata)
        registered = not login.client_id
        if registered:
            client = await self._client(metadata, redirect_uri)
        else:
            client = Registration(login.client_id, secret, _method(metadata, secret))
        login.client_id = client.client_id
        login.endpoints = {
            **{name: metadata[name] for name in ("authorization_endpoint", "token_endpoint") if name in metadata},
            "token_endpoint_auth_method": client.method,
            "names_itself": metadata.get("authorization_response_iss_parameter_supported") is True,
            "resource": resource.identifier if resource is not None else url_of(server),
            "scope": self._scope(login, resource, metadata),
            "found": issuer is None,
            "registered": registered,
        }
        return client.secret

    async def resource(self, server: Server) -> Resource | None:
        """What a server says of its tokens; `None` if it says nothing. Raises `IssuerRefused`."""
        return await self._issuers.resource(url_of(server), posts=server.transport == "streamable-http")

    async def _metadata(self, server: Server, issuer: str | None, resource: Resource | None) -> dict[str, Any]:
        if issuer is not None or resource is not None:
            return await self._issuers.metadata(issuer or (resource.issuer if resource is not None else ""))
        # Servers of 2025-03-26 issue their tokens themselves and say nothing of it.
        parts = urlsplit(url_of(server))
        try:
            return await self._issuers.metadata(f"{parts.scheme}://{parts.netloc}")
        except IssuerRefused:
            raise IssuerRefused("The server does not say who issues its tokens: give the issuer.") from None

    async def _client(self, metadata: Mapping[str, Any], redirect_uri: str) -> Registration:
        document = redirect_uri.startswith("https://") and metadata.get("client_id_metadata_document_supported") is True
        if document:
            parts = urlsplit(redirect_uri)
            return Registration(f"{parts.scheme}://{parts.netloc}{CLIENT_PATH}", None, "none")
        return await self._issuers.register(metadata, redirect_uri)

    def _scope(self, login: ServerLogin, resource: Resource | None, metadata: Mapping[str, Any]) -> str:
        wanted = resource.scope if resource is not None else ""
        supported = metadata.get("scopes_supported")
        lasting = isinstance(supported, list) and _OFFLINE in supported and login.kind == "authorization_code"
        # By itself it would stand in the place of what the issuer gives by default.
        return challenge.scopes(wanted, _OFFLINE) if wanted and lasting else wanted


def url_of(server: Server) -> str:
    url = server.endpoint_url or server.base_url
    assert url is not None
    return url


def _method(metadata: Mapping[str, Any], secret: str | None) -> str:
    if secret is None:
        return "none"
    methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"


def _require_pkce(metadata: Mapping[str, object]) -> None:
    methods = metadata.get("code_challenge_methods_supported")
    if "authorization_endpoint" not in metadata or not isinstance(methods, list) or "S256" not in methods:
        raise AccountInvalid("The issuer does not offer the code flow with PKCE (S256).", field="issuer")
