"""Takes one era away: an application in front of the server that refuses the other era as a server without it would.

It reads headers alone, as the SDK's own routing between the eras does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import mcp_types as types
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

ERAS = ("both", "legacy", "modern")

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class OneEra:
    """The application `inner` for one era.

    Args:
        era: "legacy" or "modern", the one that is left.
    """

    def __init__(self, inner: App, era: str) -> None:
        self._inner = inner
        self._era = era

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode("latin-1")
        # A version that nobody knows is for the modern era to refuse.
        legacy = not version or (version.startswith("202") and version < MODERN_PROTOCOL_VERSIONS[0])
        if legacy == (self._era == "legacy"):
            await self._inner(scope, receive, send)
            return
        await _refuse(send, self._error(version))

    def _error(self, version: str) -> dict[str, Any]:
        if self._era == "legacy":
            return {"code": types.INVALID_REQUEST, "message": f"Unsupported protocol version: {version}"}
        data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version}
        return {"code": types.UNSUPPORTED_PROTOCOL_VERSION, "message": "Unsupported protocol version", "data": data}


async def _refuse(send: Any, error: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
