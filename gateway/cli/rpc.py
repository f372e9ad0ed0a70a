"""MCP as a client of the 2026-07-28 revision speaks it over HTTP: the headers, and one request with its answer.

Stateless: no handshake, no session. `gateway.cli.stdio` shares the headers and carries other people's messages
instead of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from gateway.cli.client import Answer, GatewayClient, header, refusal
from gateway.cli.data import object_in, objects_in, parsed
from gateway.cli.errors import CommandFailed, ConnectionLost
from gateway.cli.sse import EventReader
from gateway.mcp.headers import encode_value, mirrored_params, param_headers
from gateway.mcp.protocol import (
    HEADER_MISMATCH,
    META_CAPABILITIES,
    META_CLIENT_INFO,
    META_VERSION,
    MODERN,
    NAMED_BY,
)

ACCEPT = "application/json, text/event-stream"


class RpcFailed(CommandFailed):
    """The JSON-RPC error that a request was answered with; `details` has its `code` and `data`."""

    code = "RPC_ERROR"


def own_version() -> str:
    try:
        return version("gatehouse")
    except PackageNotFoundError:
        return "0"  # run from a source tree that was never installed


def modern_headers(revision: str, method: str, params: Mapping[str, Any]) -> dict[str, str]:
    """What a modern request repeats of its body, for whoever routes without reading it."""
    headers = {
        "Accept": ACCEPT,
        "Content-Type": "application/json",
        "MCP-Protocol-Version": revision,
        "Mcp-Method": encode_value(method),
    }
    name = params.get("taskId" if method.startswith("tasks/") else NAMED_BY.get(method, ""))
    if isinstance(name, str):
        headers["Mcp-Name"] = encode_value(name)
    return headers


def mirrored(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The `Mcp-Param-*` headers that a tool's input schema asks for with `x-mcp-header`."""
    params = {"arguments": msgspec.Raw(json.dumps(arguments).encode())}
    values = mirrored_params(param_headers(schema), params)
    return {f"Mcp-Param-{name}": encode_value(value) for name, value in values.items()}


async def messages(answer: Answer, reader: EventReader) -> AsyncIterator[bytes]:
    """The data of each event of an answer that streams."""
    reader.restart()
    async for chunk in answer.chunks():
        for data in reader.feed(chunk):
            yield data


class McpCaller:
    """Makes requests of its own at `/mcp`.

    Args:
        on_notice: gets every notification that arrives before the answer, as method and params.
    """

    def __init__(self, client: GatewayClient, on_notice: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self._client = client
        self._on_notice = on_notice
        self._last_id = 0

    async def request(
        self, method: str, params: Mapping[str, Any], extra_headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The result of one request.

        Raises:
            RpcFailed: a JSON-RPC error.
            ConnectionLost: the answer ended before the result.
            CommandFailed: any other refusal.
        """
        self._last_id += 1
        meta = {
            META_VERSION: MODERN,
            META_CAPABILITIES: {},
            META_CLIENT_INFO: {"name": "gatehouse", "version": own_version()},
            **({"progressToken": self._last_id} if self._on_notice else {}),
        }
        body = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": {**params, "_meta": meta}}
        headers = {**modern_headers(MODERN, method, params), **(extra_headers or {})}
        async with self._client.open("POST", "/mcp", headers=headers, body=json.dumps(body).encode()) as answer:
            if header(answer, "content-type").startswith("text/event-stream"):
                return await self._streamed(answer)
            text = await answer.read()
        if answer.status in (401, 403):
            raise refusal(self._client.address, answer.status, text)
        reply = object_in(parsed(text))
        if "result" in reply or (isinstance(reply.get("error"), dict) and "jsonrpc" in reply):
            return _result(reply)
        raise refusal(self._client.address, answer.status, text)

    async def _streamed(self, answer: Answer) -> dict[str, Any]:
        async for data in messages(answer, EventReader()):
            message = object_in(parsed(data))
            if message.get("id") == self._last_id:
                return _result(message)
            if self._on_notice and "method" in message:
                self._on_notice(str(message["method"]), object_in(message.get("params")))
        raise ConnectionLost("The gateway ended its answer before the result; the call may have been made.")

    async def tools(self) -> list[dict[str, Any]]:
        """Every tool that the key may use."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        while True:
            page = await self.request("tools/list", params)
            found += objects_in(page.get("tools"))
            if "nextCursor" not in page or page["nextCursor"] is None:
                return found
            params = {"cursor": page["nextCursor"]}

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; a tool that wants arguments repeated as headers gets them at a second attempt."""
        params = {"name": name, "arguments": dict(arguments)}
        try:
            return await self.request("tools/call", params)
        except RpcFailed as error:
            # The server refused the request for its headers, before doing anything with it.
            if error.details["code"] != HEADER_MISMATCH:
                raise
            tool = next((tool for tool in await self.tools() if tool.get("name") == name), None)
            asked = mirrored(object_in(tool.get("inputSchema")), arguments) if tool else {}
            if not asked:
                raise
        return await self.request("tools/call", params, asked)


def _result(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        error = object_in(reply["error"])
        facts = {"code": error.get("code"), "data": error.get("data")}
        raise RpcFailed(f"{error.get('message', 'unknown error')} (code {facts['code']})", details=facts)
    return object_in(reply.get("result"))
