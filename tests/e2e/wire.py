"""MCP written out by hand, in both eras, for tests that must say and see exactly what is on the wire.

These are no clients to build on: no retry, no capability, no callback. Real clients have their own test files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.gateway import Answer, exchange

MODERN = "2026-07-28"
LEGACY = "2025-11-25"

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"

NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The parameter that `Mcp-Name` repeats."""

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class McpError(AssertionError):
    """A JSON-RPC error where a result was expected."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP {status}: {error}")
        self.status = status
        self.code: int = error["code"]


class _Calls:
    """What both eras share: one request in, one result out, and the verbs made of it."""

    def send(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        raise NotImplementedError

    def result(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The result. Raises `McpError` for a JSON-RPC error."""
        answer = self.send(method, params)
        message = answer.json()
        if "error" in message:
            raise McpError(answer.status, message["error"])
        assert answer.status == 200, answer
        return message["result"]

    def listed(self, kind: str, field: str = "name") -> list[str]:
        """`field` of everything listed under `kind` (`tools`, `resources`, `prompts`), over all pages, in order."""
        found: list[str] = []
        params: dict[str, Any] = {}
        while True:
            page = self.result(f"{kind}/list", params)
            found += [item[field] for item in page[kind]]
            if "nextCursor" not in page:
                return found
            params = {"cursor": page["nextCursor"]}

    def call(self, name: str, /, **arguments: Any) -> str:
        """The text of a tool's answer. A tool that reports an error fails the test."""
        result = self.result("tools/call", {"name": name, "arguments": arguments})
        assert not result.get("isError"), result
        return "".join(part.get("text", "") for part in result["content"])

    def read(self, uri: str) -> str:
        return "".join(part["text"] for part in self.result("resources/read", {"uri": uri})["contents"])

    def prompt(self, name: str, /, **arguments: str) -> str:
        messages = self.result("prompts/get", {"name": name, "arguments": arguments})["messages"]
        return "".join(message["content"]["text"] for message in messages)


class Modern(_Calls):
    """Stateless requests of revision 2026-07-28.

    Args:
        url: the endpoint.
        key: API key.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    def headers(self, method: str, params: Mapping[str, Any], **changed: str | None) -> dict[str, str]:
        """The headers that belong to a request; `changed` replaces some (`_` for `-`), `None` leaves one out."""
        made: dict[str, str | None] = {
            **ACCEPT,
            "Authorization": f"Bearer {self.key}",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
        }
        if method in NAMED_BY:
            made["Mcp-Name"] = str(params.get(NAMED_BY[method]))
        for name, value in changed.items():
            made[name.replace("_", "-")] = value
        return {name: value for name, value in made.items() if value is not None}

    def body(
        self, method: str, params: Mapping[str, Any] | None = None, *, version: str = MODERN, id: Any = 1
    ) -> dict[str, Any]:
        meta = {META_VERSION: version, META_CAPABILITIES: {}}
        return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**dict(params or {}), "_meta": meta}}

    def send(self, method: str, params: Mapping[str, Any] | None = None, **headers: str | None) -> Answer:
        made = self.headers(method, params or {}, **headers)
        return self.post(json.dumps(self.body(method, params)).encode(), made)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        return exchange(self.url, "POST", headers=headers, body=body)


class Legacy(_Calls):
    """A session of the handshake era, opened on construction."""

    def __init__(self, url: str, key: str, *, version: str = LEGACY) -> None:
        self.url = url
        self._last_id = 0
        self._headers = {**ACCEPT, "Authorization": f"Bearer {key}"}
        opening = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        answer = self.send("initialize", opening)
        assert answer.status == 200, answer
        self.opened: dict[str, Any] = answer.json()["result"]
        self._headers["MCP-Protocol-Version"] = self.opened["protocolVersion"]
        if session := answer.headers.get("mcp-session-id"):
            self._headers["Mcp-Session-Id"] = session
        assert self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status == 202

    @property
    def headers(self) -> dict[str, str]:
        """Those of the next message."""
        return dict(self._headers)

    def send(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        self._last_id += 1
        return self.post({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": dict(params or {})})

    def post(self, message: Any) -> Answer:
        return self.post_bytes(json.dumps(message).encode())

    def post_bytes(self, body: bytes, **changed: str) -> Answer:
        sent = {**self._headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return exchange(self.url, "POST", headers=sent, body=body)

    def close(self) -> Answer:
        return exchange(self.url, "DELETE", headers=self._headers)
