"""MCP for a server that offers tools and nothing else, in both eras: messages in, messages out. It knows no transport.

2026-07-28 names its revision in every request; older revisions begin with `initialize`. No state is kept between
requests in either, so any connection may carry any request. The specification's 2026-07-28 revision, "basic" and
"server/tools", is the source of what is checked here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, cast

from workspace_runtime.inside.failure import ToolFailure
from workspace_runtime.inside.tool import Call, Result, Say, Tool, check

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
INFO = {"name": "gatehouse-workspace", "title": "Gatehouse workspace", "version": "1"}
CREDENTIALS = "dev.gatehouse/credentials"
"""In `_meta`: git credentials that the gateway injects, a list of {url, username, password}."""
TTL_MS = 3_600_000
_META = "io.modelcontextprotocol/"
_INSTRUCTIONS = (
    "Files, git and a shell in one workspace. Paths are relative to its root. Prefer read_file, edit_file and search "
    "to commands that do the same."
)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022


class Refused(Exception):
    """A request that is answered by a JSON-RPC error.

    Args:
        status: of HTTP, in the modern era; older revisions get 200.
    """

    def __init__(self, code: int, message: str, status: int = 400, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.data = data


@dataclass(frozen=True)
class Reply:
    """An answer, and the HTTP status that goes with it."""

    body: dict[str, Any]
    status: int = 200


class Server:
    """Args:
    threads: where tools run that block.
    unexpected: is told of exceptions that are nobody's fault but ours.
    """

    def __init__(self, tools: Sequence[Tool], threads: Executor, unexpected: Callable[[BaseException], None]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._listed = [tool.definition() for tool in tools]
        self._threads = threads
        self._unexpected = unexpected

    async def request(self, message: Mapping[str, Any], headers: Mapping[str, str], say: Say) -> Reply:
        """Answer a request.

        Args:
            headers: by lower-case name.
            say: progress of a tool; told only while the request is under way.
        """
        identifier = message.get("id")
        modern = is_modern(headers)
        try:
            if modern:
                _check_headers(message, headers)
            result = await self._result(message, say, modern=modern)
        except Refused as refused:
            error: dict[str, Any] = {"code": refused.code, "message": str(refused)}
            if refused.data is not None:
                error["data"] = refused.data
            return Reply({"jsonrpc": "2.0", "id": identifier, "error": error}, refused.status if modern else 200)
        if modern:
            result = {"resultType": "complete", **result, "_meta": {f"{_META}serverInfo": INFO}}
        return Reply({"jsonrpc": "2.0", "id": identifier, "result": result})

    async def _result(self, message: Mapping[str, Any], say: Say, *, modern: bool) -> dict[str, Any]:
        method = message["method"]
        params = _object(message.get("params", {}))
        if params is None:
            raise Refused(INVALID_PARAMS, "params must be an object")
        cached = {"ttlMs": TTL_MS, "cacheScope": "public"} if modern else {}
        if method == "tools/list":
            return {"tools": self._listed, **cached}
        if method == "tools/call":
            return await self._call(params, say)
        if method == "server/discover" and modern:
            return {
                "supportedVersions": [MODERN],
                "capabilities": {"tools": {}},
                "instructions": _INSTRUCTIONS,
                **cached,
            }
        if method == "initialize" and not modern:
            asked = params.get("protocolVersion")
            return {
                "protocolVersion": asked if asked in LEGACY else LEGACY[0],
                "capabilities": {"tools": {}},
                "serverInfo": INFO,
                "instructions": _INSTRUCTIONS,
            }
        if method == "ping" and not modern:
            return {}
        raise Refused(METHOD_NOT_FOUND, f"there is no method {method}", 404)

    async def _call(self, params: Mapping[str, Any], say: Say) -> dict[str, Any]:
        tool = self._tools.get(str(params.get("name")))
        if tool is None:
            raise Refused(INVALID_PARAMS, f"there is no tool {params.get('name')}")
        arguments = params.get("arguments", {})
        injected = (_object(params.get("_meta")) or {}).get(CREDENTIALS, [])
        try:
            check(arguments, tool.schema)
            return _shown(await self._run(tool, Call(arguments, say, tuple(injected))))
        except ToolFailure as failure:
            said = str(failure)
        except OSError as error:
            said = f"{error.filename or tool.name}: {error.strerror or error}"
        except Exception as error:  # noqa: BLE001 - the server outlives a tool's mistake
            self._unexpected(error)
            said = f"{tool.name} failed: {type(error).__name__}. The workspace's log has more."
        return {"content": [{"type": "text", "text": said}], "isError": True}

    async def _run(self, tool: Tool, call: Call) -> Result:
        if inspect.iscoroutinefunction(tool.run):
            return await tool.run(call)
        made = await asyncio.get_running_loop().run_in_executor(self._threads, tool.run, call)
        assert isinstance(made, Result)
        return made


def is_modern(headers: Mapping[str, str]) -> bool:
    version = headers.get("mcp-protocol-version")
    return version is not None and version not in LEGACY


def progress(token: Any, done: float, message: str) -> dict[str, Any]:
    params = {"progressToken": token, "progress": done, "message": message}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def progress_token(message: Mapping[str, Any]) -> Any:
    """What the caller wants to be told progress by; `None` for not at all."""
    return _meta(message).get("progressToken")


def _object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _meta(message: Mapping[str, Any]) -> dict[str, Any]:
    return _object((_object(message.get("params")) or {}).get("_meta")) or {}


def _shown(result: Result) -> dict[str, Any]:
    return {
        "content": [{"type": "text", "text": result.said()}],
        "structuredContent": result.structured,
        "isError": result.failed,
    }


def _check_headers(message: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Raises:
    Refused: a modern request without what each must say of itself, or whose headers say something else.
    """
    version = headers["mcp-protocol-version"]
    if version != MODERN:
        data = {"supported": [MODERN, *LEGACY], "requested": version}
        raise Refused(UNSUPPORTED_VERSION, f"revision {version} is not supported", data=data)
    meta = _meta(message)
    if not isinstance(meta.get(f"{_META}clientCapabilities"), dict):
        raise Refused(INVALID_PARAMS, f"_meta must have {_META}protocolVersion and {_META}clientCapabilities")
    mirrored = {"mcp-protocol-version": meta.get(f"{_META}protocolVersion"), "mcp-method": message["method"]}
    if message["method"] == "tools/call":
        mirrored["mcp-name"] = (_object(message.get("params")) or {}).get("name")
    for name, value in mirrored.items():
        if value is None:
            raise Refused(INVALID_PARAMS, f"the value that {name} mirrors is missing")
        if headers.get(name) != value:
            raise Refused(HEADER_MISMATCH, f"the header {name} does not say what the body says")
