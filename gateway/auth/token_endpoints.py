"""What OAuth clients call themselves: tokens, registration, revocation, introspection; and the metadata about it all.

Sources: RFC 6749, 7009, 7591, 7662, 8414, 9728; MCP specification 2026-07-28, basic/authorization.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.auth.authorize import PATH as AUTHORIZE_PATH
from gateway.auth.browser import FormInvalid, form_of
from gateway.auth.origin import Origin
from registry.core.db import Database, Session
from registry.oauth.clients import AUTH_METHODS, GRANT_TYPES
from registry.oauth.documents import Client
from registry.oauth.errors import OAuthRefused
from registry.oauth.scopes import DEFAULT_SCOPES, SCOPES, WHOLE, audience_at, resource_of
from registry.oauth.service import Issued, OAuthService

PROTECTED = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"
# No cookie counts for any of these, so a page of anybody's may call them.
_OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"}
_MAX_REGISTRATION = 32 * 1024


class TokenEndpoints:
    """The endpoints.

    Args:
        count: counts an attempt of a request's client; raises where there were too many.
        introspect_secret: who knows it may introspect every token.
    """

    def __init__(
        self,
        database: Database,
        oauth: OAuthService,
        origin: Origin,
        count: Callable[[Request], None],
        introspect_secret: str | None,
    ) -> None:
        self._database = database
        self._oauth = oauth
        self._origin = origin
        self._count = count
        self._introspect_secret = introspect_secret

    def router(self) -> APIRouter:
        api = APIRouter()
        for path, endpoint in {
            "/oauth/token": self.token,
            "/oauth/register": self.register,
            "/oauth/revoke": self.revoke,
            "/oauth/introspect": self.introspect,
        }.items():
            api.add_route(path, _answering(endpoint), methods=["POST"], include_in_schema=False)
        for path in (SERVER, f"{SERVER}/{{path:path}}"):
            api.add_route(path, self.server_metadata, methods=["GET"], include_in_schema=False)
        for path in (PROTECTED, f"{PROTECTED}/{{path:path}}"):
            api.add_route(path, self.resource_metadata, methods=["GET"], include_in_schema=False)
        return api

    # -- metadata

    async def resource_metadata(self, request: Request) -> Response:
        """RFC 9728: which authorization server issues tokens for an address."""
        base = self._origin.of(request.scope)
        audience = audience_at(f"/{request.path_params.get('path', '')}") or WHOLE
        return JSONResponse(
            {
                "resource": resource_of(base, audience),
                "authorization_servers": [base],
                "scopes_supported": list(DEFAULT_SCOPES),
                "bearer_methods_supported": ["header"],
                "resource_name": "Gatehouse",
            },
            headers=_OPEN,
        )

    async def server_metadata(self, request: Request) -> Response:
        """RFC 8414."""
        base = self._origin.of(request.scope)
        methods = list(AUTH_METHODS)
        return JSONResponse(
            {
                "issuer": base,
                "authorization_endpoint": base + AUTHORIZE_PATH,
                "token_endpoint": base + "/oauth/token",
                "registration_endpoint": base + "/oauth/register",
                "revocation_endpoint": base + "/oauth/revoke",
                "introspection_endpoint": base + "/oauth/introspect",
                "scopes_supported": sorted(SCOPES),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": list(GRANT_TYPES),
                "token_endpoint_auth_methods_supported": methods,
                "revocation_endpoint_auth_methods_supported": methods,
                "introspection_endpoint_auth_methods_supported": [one for one in methods if one != "none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "client_id_metadata_document_supported": True,
            },
            headers=_OPEN,
        )

    # -- endpoints

    async def token(self, request: Request) -> Response:
        base, form = self._origin.of(request.scope), await form_of(request)
        async with self._database.transaction() as session:
            client = await self._client(session, request, form)
            issued = await self._issued(session, client, base, form)
        if isinstance(issued, OAuthRefused):
            raise issued
        return JSONResponse(
            {
                "access_token": issued.access_token,
                "token_type": "Bearer",
                "expires_in": issued.expires_in,
                "refresh_token": issued.refresh_token,
                "scope": issued.scope,
            },
            headers=_OPEN,
        )

    async def _issued(
        self, session: Session, client: Client, base: str, form: Mapping[str, str]
    ) -> Issued | OAuthRefused:
        match form.get("grant_type"):
            case "authorization_code":
                return await self._oauth.exchange_code(
                    session,
                    client,
                    base,
                    code=form.get("code", ""),
                    redirect_uri=form.get("redirect_uri"),
                    verifier=form.get("code_verifier", ""),
                    resource=form.get("resource"),
                )
            case "refresh_token":
                return await self._oauth.refresh(
                    session,
                    client,
                    base,
                    token=form.get("refresh_token", ""),
                    scope=form.get("scope"),
                    resource=form.get("resource"),
                )
            case _:
                return OAuthRefused("unsupported_grant_type", f"grant_type must be one of {', '.join(GRANT_TYPES)}.")

    async def register(self, request: Request) -> Response:
        self._count(request)
        body = await request.body()
        try:
            metadata = msgspec.json.decode(body if len(body) <= _MAX_REGISTRATION else b"", type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise OAuthRefused("invalid_client_metadata", "The body must be a JSON object of moderate size.") from None
        async with self._database.transaction() as session:
            made = await self._oauth.clients.register(session, metadata)
        answer: dict[str, Any] = {
            "client_id": made.client.client_id,
            "client_id_issued_at": made.issued_at,
            "client_name": made.client.name,
            "redirect_uris": list(made.client.redirect_uris),
            "token_endpoint_auth_method": made.client.auth_method,
            "grant_types": list(GRANT_TYPES),
            "response_types": ["code"],
        }
        if made.secret is not None:
            answer |= {"client_secret": made.secret, "client_secret_expires_at": 0}
        return JSONResponse(answer, 201, _OPEN)

    async def revoke(self, request: Request) -> Response:
        form = await form_of(request)
        async with self._database.transaction() as session:
            client = await self._client(session, request, form)
            await self._oauth.revoke(session, client, form.get("token", ""))
        return Response(status_code=200, headers=_OPEN)

    async def introspect(self, request: Request) -> Response:
        self._count(request)
        form = await form_of(request)
        async with self._database.reading() as session:
            client = None if self._trusted(request) else await self._client(session, request, form)
            if client is not None and client.auth_method == "none":
                raise OAuthRefused("invalid_client", "Introspection needs a client with a secret.")
            answer = await self._oauth.introspect(session, form.get("token", ""), client)
        return JSONResponse(answer, headers=_OPEN)

    def _trusted(self, request: Request) -> bool:
        given = request.headers.get("x-introspect-secret")
        wanted = self._introspect_secret
        return given is not None and wanted is not None and secrets.compare_digest(given.encode(), wanted.encode())

    async def _client(self, session: Session, request: Request, form: Mapping[str, str]) -> Client:
        """The client of a request, by HTTP Basic or by its form. Raises `OAuthRefused`: `invalid_client`."""
        given = request.headers.get("authorization")
        if given is None:
            return await self._oauth.clients.authenticate(session, form.get("client_id"), form.get("client_secret"))
        scheme, _, encoded = given.partition(" ")
        try:
            name, _, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthRefused("invalid_client", "The Authorization header is malformed.") from None
        client_id = unquote_plus(name)
        if scheme.lower() != "basic" or form.get("client_id", client_id) != client_id or "client_secret" in form:
            raise OAuthRefused("invalid_client", "A client proves itself in exactly one way.")
        return await self._oauth.clients.authenticate(session, client_id, unquote_plus(secret))


def _answering(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The endpoint, with its refusals as OAuth clients read them."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FormInvalid as error:
            refused = OAuthRefused("invalid_request", error.message)
        except OAuthRefused as error:
            refused = error
        headers = dict(_OPEN)
        if refused.http_status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="gatehouse"'
        body = {"error": refused.error, "error_description": refused.message}
        return JSONResponse(body, refused.http_status, headers)

    return answer
