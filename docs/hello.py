# ruff: noqa: INP001 - a program of its own, for the README's tour
"""An MCP server of one tool, to try the gateway with: over stdio, or over HTTP when given a port.

It is a client of nothing in Gatehouse and no part of it. Run it with the interpreter of the checkout's `.venv`.
"""

from __future__ import annotations

import sys

from mcp.server import MCPServer

server = MCPServer("hello")


@server.tool()
def greet(name: str) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
