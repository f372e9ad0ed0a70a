"""A stdio upstream: finding out what a program speaks, however long it takes to start."""

from __future__ import annotations

import sys

import pytest

from gateway.mcp.upstream import stdio
from gateway.mcp.upstream.child import Child
from gateway.mcp.upstream.stdio import StdioUpstream
from registry.core.clock import SystemClock
from registry.servers.connection import Connection

# Each answers once it has both been asked what it is and been greeted, as one does that was slow to start.
MODERN = """
import json
asked, greeted = json.loads(input()), json.loads(input())
result = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}}
print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
print(json.dumps({"jsonrpc": "2.0", "id": greeted["id"], "error": {"code": -32600, "message": "no"}}), flush=True)
input()
"""
REFUSING_FIRST = "\n".join(MODERN.splitlines()[index] for index in (0, 1, 2, 3, 5, 4, 6))
LEGACY = """
import json
asked, greeted = json.loads(input()), json.loads(input())
result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
print(json.dumps({"jsonrpc": "2.0", "id": greeted["id"], "result": result}), flush=True)
input()
input()
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [(MODERN, b"supportedVersions"), (REFUSING_FIRST, b"supportedVersions"), (LEGACY, b"protocolVersion")],
)
async def test_one_that_is_slow_is_taken_for_what_it_is(
    program: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "DETECT_SECONDS", 0.01)
    connection = Connection("id", "org", "slow", "stdio", command=sys.executable, args=("-c", program))
    upstream = StdioUpstream(
        connection, lambda of, on_line, on_exit: Child.start(of, "same", on_line, on_exit), SystemClock()
    )
    try:
        assert said in bytes((await upstream.introduce()).result)
    finally:
        await upstream.close()
