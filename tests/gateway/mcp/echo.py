"""An MCP server that answers every call with what it was sent, in either era, on a loopback listener.

Hand-written JSON-RPC without state, so that a test sees exactly what reached the server.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.canary import Canary, canary, http_answer

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


def tool(name: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"{name} of the echo", "inputSchema": schema or {"type": "object"}, **more}


@dataclass
class Echo:
    """What the server offers; may be changed while it runs.

    Args:
        modern: speaks the revision without sessions, and nothing else.
    """

    modern: bool = False
    tools: list[dict[str, Any]] = field(default_factory=lambda: [tool("say")])
    resources: list[dict[str, Any]] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    """Every request for a tool, resource or prompt, with its `Mcp-Param-*` headers under `headers`."""
    listener: Canary | None = None

    @property
    def url(self) -> str:
        assert self.listener is not None
        return self.listener.url + "mcp"

    def answer(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        if not head.startswith(b"POST"):
            return http_answer(405)
        message = json.loads(body)
        if "id" not in message:
            return http_answer(202, b"")
        result = self._result(message["method"], message.get("params", {}), head)
        if result is None:
            error = {"code": -32601, "message": f"no {message['method']} here"}
            status, member = (404 if self.modern else 200), {"error": error}
        else:
            status, member = 200, {"result": {"resultType": "complete", **result} if self.modern else result}
        whole = {"jsonrpc": "2.0", "id": message["id"], **member}
        return http_answer(status, json.dumps(whole).encode(), content_type="application/json")

    def _result(self, method: str, params: dict[str, Any], head: bytes) -> dict[str, Any] | None:
        lists = {
            "tools/list": {"tools": self.tools},
            "resources/list": {"resources": self.resources},
            "resources/templates/list": {"resourceTemplates": self.templates},
            "prompts/list": {"prompts": self.prompts},
        }
        capabilities = {"tools": {}, "resources": {}, "prompts": {}}
        if method == "initialize" and not self.modern:
            info = {"name": "echo", "version": "1"}
            return {"protocolVersion": LEGACY, "capabilities": capabilities, "serverInfo": info}
        if method == "server/discover" and self.modern:
            return {"supportedVersions": [MODERN], "capabilities": capabilities}
        if method in lists:
            return lists[method]
        if method not in ("tools/call", "resources/read", "prompts/get", "completion/complete"):
            return None
        lines = (line.partition(":") for line in head.decode().lower().split("\r\n")[1:])
        headers = {name: value.strip() for name, _, value in lines if name.startswith("mcp-param-")}
        seen = {"method": method, **{key: value for key, value in params.items() if key != "_meta"}, "headers": headers}
        self.received.append(seen)
        text = json.dumps(seen)
        if method == "tools/call":
            return {"content": [{"type": "text", "text": text}]}
        if method == "completion/complete":
            return {"completion": {"values": [text]}}
        if method == "resources/read":
            return {"contents": [{"uri": params["uri"], "text": text}]}
        return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}


@asynccontextmanager
async def echo(**offer: Any) -> AsyncIterator[Echo]:
    """An echo server for the length of the block."""
    server = Echo(**offer)
    async with canary(server.answer) as listener:
        server.listener = listener
        yield server
