"""An MCP server of the modern era whose tool `drip` streams without end, and a gateway process to put before it.

The server runs in the test's own loop, so that the test sees when each stream ended at its far side.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import uvicorn

from tests.support.components.machine import free_port

ROOT = Path(__file__).parents[2]
VERSION = "2026-07-28"
DRIP_SECONDS = 0.25
"""Seldom enough that a hundred streams do not keep the machine busy; how streams end does not hang on it."""
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
TOOLS = [
    {"name": name, "description": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
    for name in ("drip", "hang", "echo")
]


@dataclass(eq=False)
class Dripping:
    """The server. `ended` holds when (`time.monotonic`) each stream's far side saw its end."""

    url: str = ""
    calls: int = 0
    dripping: int = 0
    ended: list[float] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = json.loads(body or b"{}")
        if asked.get("method") == "tools/call":
            self.calls += 1
            if asked["params"]["name"] == "drip":
                await self._drip(asked, receive, send)
                return
            if asked["params"]["name"] == "hang":
                await self._hang(receive)
                return
        if "id" not in asked:
            await _answer(send, 202, b"")
            return
        result = {"resultType": "complete", **self._result(asked["method"])}
        await _answer(send, 200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())

    def _result(self, method: str) -> dict[str, Any]:
        known: dict[str, dict[str, Any]] = {
            "server/discover": {
                "supportedVersions": [VERSION],
                "capabilities": {"tools": {}},
                "ttlMs": 60_000,
                "cacheScope": "public",
                "serverInfo": {"name": "dripping", "version": "1"},
            },
            "tools/list": {"tools": TOOLS, "ttlMs": 60_000, "cacheScope": "public"},
            "tools/call": {"content": [{"type": "text", "text": "done"}], "isError": False},
        }
        return known[method]

    async def _drip(self, asked: Any, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(receive())
        self.dripping += 1
        try:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "drip"}}
            while not gone.done():
                event = b"event: message\ndata: " + json.dumps(note).encode() + b"\n\n"
                await send({"type": "http.response.body", "body": event, "more_body": True})
                await asyncio.wait([gone], timeout=DRIP_SECONDS)
        finally:
            self.dripping -= 1
            self.ended.append(time.monotonic())
            gone.cancel()

    async def _hang(self, receive: Any) -> None:
        self.dripping += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        self.dripping -= 1
        self.ended.append(time.monotonic())


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def dripping() -> AsyncIterator[Dripping]:
    port, app = free_port(), Dripping()
    app.url = f"http://127.0.0.1:{port}/mcp"
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield app
    finally:
        server.should_exit = True
        await task


class GatewayProcess:
    """A gateway as a child process; several share a database where `env` says so.

    Args:
        args: further arguments of `serve`.
    """

    def __init__(self, data_dir: Path, *args: str, **env: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
        self.env = clean | {"PYTHONPATH": str(ROOT), "GATEHOUSE_DATA_DIR": str(data_dir)} | env
        self._log = data_dir.parent / f"{data_dir.name}-{self.port}.log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "gateway", "serve", "--port", str(self.port), *args]
            self.process = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=log, stderr=log)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        try:
            async with asyncio.timeout(60):
                while not await self._ready():
                    assert self.process.poll() is None, self.log
                    await asyncio.sleep(0.05)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        if self.process.poll() is None:
            self.process.terminate()
        await asyncio.to_thread(self.process.wait, 30)

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def _ready(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self._http.get(self.url + "/readyz") as answer:
                return answer.status == 200
        return False

    @property
    def admin_key(self) -> str:
        lines = (self.data_dir / "first-run.txt").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["admin_api_key"]

    async def rest(
        self, method: str, path: str, body: Any = None, *, key: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        sent = {"authorization": f"Bearer {key}", **(headers or {})}
        async with self._http.request(method, self.url + path, json=body, headers=sent) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    def open_call(self, key: str, tool: str, arguments: Mapping[str, Any] | None = None, *, alone: bool = False) -> Any:
        """A call of a tool, to be read as it comes."""
        params = {"name": tool, "arguments": dict(arguments or {}), "_meta": META}
        body = {"jsonrpc": "2.0", "id": "call", "method": "tools/call", "params": params}
        headers = {
            "authorization": f"Bearer {key}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": "tools/call",
            "mcp-name": tool,
        }
        if alone:
            headers["connection"] = "close"
        return self._http.post(self.url + "/mcp", json=body, headers=headers)

    async def call(
        self, key: str, tool: str, arguments: Mapping[str, Any] | None = None, *, alone: bool = False
    ) -> dict[str, Any]:
        """The answer of a call: the last message, where it comes as a stream.

        Args:
            alone: over a connection of its own, which any of several workers may take.
        """
        async with self.open_call(key, tool, arguments, alone=alone) as answer:
            text = await answer.text()
        if answer.content_type == "text/event-stream":
            text = [line[5:] for line in text.splitlines() if line.startswith("data:")][-1]
        return json.loads(text)
