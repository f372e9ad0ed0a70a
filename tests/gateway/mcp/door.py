"""The whole application in process, and clients of both eras that speak to it over ASGI without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.app import Application
from registry.core.settings import Settings
from tests.support.database import lay_schema

HOST = "127.0.0.1:8000"
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return json.loads([line for line in self.body.splitlines() if line.startswith(b"data:")][-1][5:])
        return json.loads(self.body)


class McpError(AssertionError):
    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP {status}: {error}")
        self.status = status
        self.code: int = error["code"]
        self.error = error


@dataclass
class Door:
    """A started application.

    Args:
        client: the address that requests come from.
    """

    app: Application
    admin: str
    agent: str
    client: str = "127.0.0.1"

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """One exchange. A client that has sent its body waits for one event of an endless stream, then goes."""
        raw = [(b"host", HOST.encode()), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": raw,
            "client": (self.client, 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        answer, gone, sent = Answer(), asyncio.Event(), False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def take(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            answer.body += message.get("body", b"")
            if message.get("more_body") and answer.body:
                gone.set()

        await self.app(scope, receive, take)
        return answer

    async def rest(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {key or self.admin}", "Content-Type": "application/json"}
        return await self.send(method, path, headers, json.dumps(body).encode() if body is not None else b"")

    async def register(self, name: str, url: str, **more: Any) -> dict[str, Any]:
        answer = await self.rest("POST", "/v1/mcp/servers", {"name": name, "base_url": url, **more})
        assert answer.status == 201, answer.body
        server: dict[str, Any] = answer.json()
        assert server["health_status"] == "healthy", server
        return server

    def modern(self, path: str, key: str | None = None) -> Modern:
        return Modern(self, path, key)

    async def legacy(self, path: str, key: str | None = None) -> Legacy:
        session = Legacy(self, path, key)
        await session.open()
        return session

    async def either(self, era: str, path: str, key: str | None = None) -> Client:
        return self.modern(path, key) if era == "modern" else await self.legacy(path, key)


class Client:
    """What both eras share."""

    def __init__(self, door: Door, path: str, key: str | None) -> None:
        self.door = door
        self.path = path
        self.headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"

    async def send(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        raise NotImplementedError

    async def result(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        answer = await self.send(method, params, **headers)
        message = answer.json()
        if "error" in message:
            raise McpError(answer.status, message["error"])
        assert answer.status == 200, answer
        found: dict[str, Any] = message["result"]
        return found

    async def tools(self) -> dict[str, dict[str, Any]]:
        listed = (await self.result("tools/list"))["tools"]
        made = {item["name"]: item for item in listed}
        assert len(made) == len(listed), "a name was listed twice"
        return made

    async def names(self, kind: str, by: str = "name") -> list[str]:
        key = "resourceTemplates" if kind == "resources/templates" else kind
        return [item[by] for item in (await self.result(f"{kind}/list"))[key]]

    async def call(self, name: str, arguments: Any = None, **headers: str) -> dict[str, Any]:
        """What the echo server was sent."""
        params = {"name": name} if arguments is None else {"name": name, "arguments": arguments}
        result = await self.result("tools/call", params, **headers)
        assert not result.get("isError"), result
        seen: dict[str, Any] = json.loads(result["content"][0]["text"])
        return seen


class Modern(Client):
    async def send(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        made = {**self.headers, "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if method in NAMED_BY:
            made["Mcp-Name"] = str((params or {}).get(NAMED_BY[method]))
        made |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}}
        return await self.door.send("POST", self.path, made, json.dumps(body).encode())


class Legacy(Client):
    async def open(self) -> None:
        opening = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "door", "version": "1"}}
        answer = await self.send("initialize", opening)
        if "error" in (message := answer.json()):
            raise McpError(answer.status, message["error"])
        self.opened: dict[str, Any] = message["result"]
        self.headers |= {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": LEGACY}

    async def send(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})}
        return await self.door.send("POST", self.path, self.headers, json.dumps(body).encode())


@asynccontextmanager
async def opened(data_dir: Path, **settings: Any) -> AsyncIterator[Door]:
    """An application with an empty database for the length of the block; rate limits are off unless asked for."""
    await lay_schema(data_dir)
    app = Application(Settings(data_dir=data_dir, **({"rate_limits": "off"} | settings)), "127.0.0.1", 8000)
    made = await app.prepare()
    assert made is not None
    assert made.admin_api_key is not None
    await app.start()
    try:
        yield Door(app, made.admin_api_key, made.agent_api_key)
    finally:
        await app.stop()
