"""One exchange with the application over ASGI, whose client stays until it is told to go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.gateway.mcp.door import HOST, LEGACY, MODERN, NAMED_BY, Door

KEPT = 1 << 20
"""Of a body that is longer than this, the rest is not kept."""
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


class Exchange:
    """A request under way; `await exchange.done()` gives its whole answer."""

    def __init__(self, door: Door, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self._gone = asyncio.Event()
        self._more = asyncio.Condition()
        self._pending: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        raw = [(b"host", HOST.encode()), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": raw,
            "client": (door.client, 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        self.task = asyncio.create_task(door.app(scope, self._receive, self._send))

    def go(self) -> None:
        """Close the connection, as its client."""
        self._gone.set()

    async def done(self) -> Exchange:
        """Wait for the application; a broken body is a failure of the connection, which shows in `ended`."""
        await asyncio.wait([self.task])
        return self

    async def until(self, part: bytes) -> None:
        """Wait until the body has it."""
        async with self._more:
            await asyncio.wait_for(self._more.wait_for(lambda: part in self.body), 10)

    def messages(self) -> list[dict[str, Any]]:
        if self.headers.get("content-type") != "text/event-stream":
            return [json.loads(self.body)] if self.body else []
        lines = [line[5:] for line in self.body.splitlines() if line.startswith(b"data:")]
        return [json.loads(line) for line in lines if line.strip()]

    async def _receive(self) -> dict[str, Any]:
        if self._pending:
            return self._pending.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        async with self._more:
            if len(self.body) < KEPT:
                self.body += message.get("body", b"")
            self._more.notify_all()
        if not message.get("more_body"):
            self.ended = True
            self._gone.set()


class Speaker:
    """A client of one era at one address, with a key.

    Args:
        session: what a legacy client was given when it initialized.
    """

    def __init__(self, door: Door, path: str, key: str, session: str | None = None) -> None:
        self.door, self.path, self.session = door, path, session
        self.modern = session is None
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if session is not None:
            self._headers |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}

    @classmethod
    async def of(
        cls, door: Door, era: str, path: str, key: str | None = None, capabilities: dict[str, Any] | None = None
    ) -> Speaker:
        """A client that can speak; a legacy one has initialized."""
        speaker = cls(door, path, key or door.admin)
        if era == "modern":
            return speaker
        opening = {"protocolVersion": LEGACY, "capabilities": capabilities or {}, "clientInfo": {"name": "s"}}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening}
        opened = await speaker.post(message).done()
        return cls(door, path, key or door.admin, opened.headers["mcp-session-id"])

    def post(self, message: Any, **headers: str) -> Exchange:
        """Any message, as it is."""
        made = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return Exchange(self.door, "POST", self.path, made, json.dumps(message).encode())

    def request(self, method: str, params: Mapping[str, Any] | None = None, identifier: Any = 1) -> Exchange:
        """A request that is under way."""
        given = dict(params or {})
        headers = {}
        if self.modern:
            given["_meta"] = {**META, **given.get("_meta", {})}
            headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            if method in NAMED_BY:
                headers["Mcp-Name"] = given[NAMED_BY[method]]
        return self.post({"jsonrpc": "2.0", "id": identifier, "method": method, "params": given}, **headers)

    def call(self, name: str, arguments: Any = None, identifier: Any = 1) -> Exchange:
        return self.request("tools/call", {"name": name, "arguments": arguments or {}}, identifier)

    def notify(self, method: str, params: Mapping[str, Any]) -> Exchange:
        return self.post({"jsonrpc": "2.0", "method": method, "params": dict(params)})

    def send(self, method: str) -> Exchange:
        """A GET or a DELETE."""
        return Exchange(self.door, method, self.path, self._headers, b"")
