"""The notes server as a program: `python -m tests.support.servers.notes_program --port P --era modern`, or `--stdio`.

A small MCP server on the Python SDK. It keeps no state, and its answers can be computed by hand. With `--era modern`
it serves revision 2026-07-28 alone and refuses everything older, with `--era both` whatever the SDK serves. `notes`
starts it and says what it offers.
"""

from __future__ import annotations

import argparse
import json

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Receive, Scope, Send


def build() -> MCPServer:
    server = MCPServer("notes", version="1.0", log_level="WARNING")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Sum of two integers."""
        return a + b

    @server.tool()
    def shout(text: str) -> str:
        """The text in capitals."""
        return text.upper()

    @server.tool()
    def era(context: Context) -> str:
        """The protocol revision this call came in with."""
        return str(context.protocol_version)

    @server.tool()
    def fail() -> str:
        """Always fails."""
        raise ValueError("as it was asked to")

    @server.resource("notes://readme", mime_type="text/plain")
    def readme() -> str:
        return "Notes are short."

    @server.resource("notes://about/{topic}", mime_type="text/plain")
    def about(topic: str) -> str:
        return f"All about {topic}."

    @server.prompt()
    def review(language: str) -> str:
        """Ask for a review of code in a language."""
        return f"Review this {language} code."

    return server


class ModernOnly:
    """Answers every request that is not of a modern revision as a server does that knows no other."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _version(scope) in MODERN_PROTOCOL_VERSIONS:
            await self._app(scope, receive, send)
            return
        error = {
            "code": UNSUPPORTED_PROTOCOL_VERSION,
            "message": "Unsupported protocol version",
            "data": {"supported": [LATEST_MODERN_VERSION], "requested": _version(scope)},
        }
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _version(scope: Scope) -> str:
    return dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode("latin-1")


def main() -> None:
    parser = argparse.ArgumentParser()
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--stdio", action="store_true", help="serve over pipes, whatever the SDK serves")
    parser.add_argument("--era", choices=("modern", "both"), default="both")
    options = parser.parse_args()
    if options.stdio:
        build().run("stdio")
        return
    app: ASGIApp = build().streamable_http_app()
    if options.era == "modern":
        app = ModernOnly(app)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
