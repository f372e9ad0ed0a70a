"""A small gateway on loopback: the documented REST routes the command line uses, and an MCP endpoint of both eras.

It listens for real, so the whole client runs. `/mcp` is the SDK's own server unless a test puts a script in its place.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "mcp_test_0123456789abcdef0123456789abcdef"
OPERATOR = "operator-proof"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Name(BaseModel):
    name: str


def sdk_server() -> MCPServer:
    server = MCPServer("fake")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        for step in range(1, to + 1):
            await ctx.report_progress(step, to, f"step {step}")
        return f"counted to {to}"

    @server.tool()
    async def fail() -> str:
        raise ToolError("the disk is on fire")

    @server.tool()
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"hello {answer.data.name}" if answer.action == "accept" else "hello stranger"

    return server


def problem(status: int, detail: Any) -> JSONResponse:
    return JSONResponse({"type": "about:blank", "title": "Error", "status": status, "detail": detail}, status)


@dataclass
class FakeGateway:
    seen: list[Seen] = field(default_factory=list)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[int, dict[str, Any]] = field(default_factory=dict)
    ready: bool = True
    script: Callable[[Request], Awaitable[Response]] | None = None
    url: str = ""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def requests(self, method: str, path: str = "/mcp") -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def wait_for(self, method: str, path: str = "/mcp", at_least: int = 1) -> list[Seen]:
        """Block until so many such requests have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests(method, path)) >= at_least, timeout=20)
        return self.requests(method, path)

    # REST

    async def register(self, request: Request) -> Response:
        body = await request.json()
        if body.get("transport") == "stdio" and request.headers.get("x-gatehouse-operator") != OPERATOR:
            return problem(403, "Registering a command needs proof of access to the machine.")
        if any(server["name"] == body["name"] for server in self.servers.values()) and "dup" not in body["name"]:
            return problem(409, "A server with this name exists.")
        number = len(self.servers) + 1
        server = {
            "id": f"id-{number}",
            "slug": f"slug-{number}",
            "status": "active",
            "health_status": "healthy",
            **body,
        }
        self.servers[server["id"]] = server
        return JSONResponse(server, 201)

    async def list_servers(self, request: Request) -> Response:
        limit, offset = int(request.query_params.get("limit", 50)), int(request.query_params.get("offset", 0))
        found = list(self.servers.values())
        page = found[offset : offset + min(limit, 2)]  # a small page, so that paging is used
        return JSONResponse({"servers": page, "total": len(found), "limit": limit, "offset": offset})

    async def one_server(self, request: Request) -> Response:
        server = self.servers.get(request.path_params["id"])
        if server is None:
            return problem(404, "MCP server not found")
        if request.method == "DELETE":
            del self.servers[server["id"]]
            return JSONResponse({"message": "MCP server deleted successfully", "cleanup_job_id": None})
        return JSONResponse(server)

    async def server_health(self, request: Request) -> Response:
        server = self.servers[request.path_params["id"]]
        return JSONResponse({"health_status": server["health_status"], "error_message": "connection refused"})

    async def discover(self, request: Request) -> Response:
        errors = ["tools/list timed out"] if "broken" in self.servers[request.path_params["id"]]["name"] else []
        return JSONResponse({"capabilities": {"tools": {"a": {}, "b": {}}, "resources": {}}, "errors": errors})

    async def create_key(self, request: Request) -> Response:
        number = len(self.keys) + 1
        key = {"id": number, "prefix": f"mcp_{number}", "permissions": None, "tools": None, **(await request.json())}
        self.keys[number] = key
        return JSONResponse({**key, "api_key": f"mcp_{number}_secret"}, 201)

    async def list_keys(self, request: Request) -> Response:
        return JSONResponse({"api_keys": list(self.keys.values()), "total": len(self.keys), "limit": 50, "offset": 0})

    async def revoke_key(self, request: Request) -> Response:
        found = self.keys.pop(int(request.path_params["id"]), None)
        return Response(status_code=204) if found else problem(404, "API key not found")

    async def validate(self, request: Request) -> Response:
        valid = (await request.json())["api_key"] == KEY
        user = {"email": "admin@example.com", "roles": ["admin"]} if valid else None
        return JSONResponse({"valid": valid, "user": user})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "healthy", "version": "0.1.0", "timestamp": time.time()})

    async def readiness(self, request: Request) -> Response:
        return Response("ok") if self.ready else problem(503, "The database cannot be reached.")

    def app(self) -> Any:
        rest = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/readyz", self.readiness),
                Route("/v1/auth/api-key/validate", self.validate, methods=["POST"]),
                Route("/v1/mcp/servers", self.register, methods=["POST"]),
                Route("/v1/mcp/servers", self.list_servers),
                Route("/v1/mcp/servers/{id}", self.one_server, methods=["GET", "DELETE"]),
                Route("/v1/mcp/servers/{id}/health", self.server_health),
                Route("/v1/mcp/servers/{id}/capabilities/discover", self.discover, methods=["POST"]),
                Route("/v1/api-keys", self.create_key, methods=["POST"]),
                Route("/v1/api-keys", self.list_keys),
                Route("/v1/api-keys/{id}", self.revoke_key, methods=["DELETE"]),
            ]
        )
        mcp = sdk_server().streamable_http_app()
        open_paths = ("/health", "/readyz", "/v1/auth/api-key/validate")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await mcp(scope, receive, send)
                return
            request = Request(scope, receive)
            body = await request.body()
            with self.changed:
                self.seen.append(Seen(request.method, request.url.path, dict(request.headers), body))
                self.changed.notify_all()
            handed = False

            async def replay() -> Any:
                nonlocal handed
                if handed:
                    return await receive()
                handed = True
                return {"type": "http.request", "body": body, "more_body": False}

            if request.url.path not in open_paths and request.headers.get("authorization") != f"Bearer {KEY}":
                refused = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "The key is not valid."}}
                answer = (
                    JSONResponse(refused, 401) if request.url.path == "/mcp" else problem(401, "The key is unknown.")
                )
                await answer(scope, replay, send)
            elif request.url.path != "/mcp":
                await rest(scope, replay, send)
            elif self.script is not None:
                await (await self.script(Request(scope, replay)))(scope, replay, send)
            else:
                await mcp(scope, replay, send)

        return app

    def serve(self) -> Callable[[], None]:
        """Listen; the returned function stops."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(self.app(), log_level="error", timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()

        return stop


def message(body: bytes) -> dict[str, Any]:
    return json.loads(body)
