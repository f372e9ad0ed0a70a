"""An MCP server that lets nobody in without a token of its issuer's, and the issuer: both on one loopback listener."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.gateway.mcp.echo import LEGACY, tool


@dataclass
class Guarded:
    """Args:
    tokens: what opens, with whose it is.
    seen: the Authorization of every call of a tool, and whether other credentials came along.
    lifetime: of the tokens that it gives, in seconds.
    """

    url: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    refresh: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    lifetime: int = 3600
    issuer: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    """What the issuer says of itself beside the rest."""

    def issue(self, holder: str) -> dict[str, Any]:
        token, following = f"up-{secrets.token_hex(8)}", f"ref-{secrets.token_hex(8)}"
        self.tokens[token], self.refresh[following] = holder, holder
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "refresh_token": following,
        }

    async def handle(self, request: web.Request) -> web.Response:
        base = self.url.removesuffix("/mcp")
        match request.path:
            case "/.well-known/oauth-protected-resource/mcp":
                return web.json_response({"resource": self.url, "authorization_servers": [base]})
            case "/.well-known/oauth-authorization-server":
                return web.json_response(
                    {
                        "issuer": self.issuer or base,
                        "authorization_endpoint": f"{base}/authorize",
                        "token_endpoint": f"{base}/token",
                        "registration_endpoint": f"{base}/register",
                        "code_challenge_methods_supported": ["S256"],
                        "token_endpoint_auth_methods_supported": ["client_secret_post"],
                        "authorization_response_iss_parameter_supported": True,
                        **self.metadata,
                    }
                )
            case "/register":
                return web.json_response({"client_id": "gateway-here", "client_secret": "whisper"}, status=201)
            case "/token":
                return self._token({name: str(value) for name, value in (await request.post()).items()})
            case "/mcp" if request.method == "POST":
                return self._mcp(request, await request.json())
        return web.Response(status=404 if request.path != "/mcp" else 405)

    def _token(self, form: dict[str, str]) -> web.Response:
        self.forms.append(form)
        holder = None
        if form.get("client_secret") == "whisper":
            if form["grant_type"] == "client_credentials":
                holder = "the gateway"
            elif form["grant_type"] == "refresh_token":
                holder = self.refresh.pop(form["refresh_token"], None)
            elif form["code"].startswith("code-of-"):
                holder = form["code"].removeprefix("code-of-")
        if holder is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(self.issue(holder))

    def _mcp(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        given = request.headers.get("Authorization", "")
        holder = self.tokens.get(given.removeprefix("Bearer "))
        if holder is None:
            return web.Response(status=401)
        if "id" not in message:
            return web.Response(status=202)
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": LEGACY,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "guarded", "version": "1"},
            },
            "tools/list": {"tools": [tool("who")]},
            "tools/call": {"content": [{"type": "text", "text": holder}]},
        }
        result = results.get(message["method"])
        if message["method"] == "tools/call":
            names = ("cookie", "x-api-key", "x-session-id", "authorization")
            self.seen.append({name: value for name, value in request.headers.items() if name.lower() in names})
        body = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no"}}
        return web.Response(
            text=json.dumps({"jsonrpc": "2.0", "id": message["id"], **body}), content_type="application/json"
        )


@asynccontextmanager
async def guarded() -> AsyncIterator[Guarded]:
    made = Guarded()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    try:
        yield made
    finally:
        await runner.cleanup()
