"""An HTTP+SSE server that does what a test tells it to: it is spoken to in raw messages, and can misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

INTRODUCTION = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}


class SseServer:
    """The server.

    Attributes:
        endpoint: what the stream names as the address for messages, with `{}` for the session's number.
        received: every message that was posted, in order.
        answer: called with each request but `initialize`; what it gives is sent on the stream, `None` is not.
        known: sessions that POSTs are taken for.
    """

    def __init__(self) -> None:
        self.endpoint = "/messages?session={}"
        self.received: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda request: {
            "jsonrpc": "2.0",
            "id": request["id"],
            "result": {"echo": request["params"]},
        }
        self.known: set[str] = set()
        self.streams: dict[str, asyncio.Queue[bytes | None]] = {}
        self.headers: list[dict[str, str]] = []
        self.heard = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/sse", self._stream)
        app.router.add_post("/messages", self._message)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/sse"

    async def stop(self) -> None:
        self.end_streams()
        if self._runner is not None:
            await self._runner.cleanup()

    def end_streams(self) -> None:
        for queue in self.streams.values():
            queue.put_nowait(None)

    def send(self, session: str, message: dict[str, Any]) -> None:
        self.streams[session].put_nowait(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")

    def methods(self) -> list[str]:
        return [message.get("method", "") for message in self.received]

    async def until(self, method: str) -> dict[str, Any]:
        """The first message of that method, when it has come."""
        while not (found := [message for message in self.received if message.get("method") == method]):
            self.heard.clear()
            await self.heard.wait()
        return found[0]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        session = str(len(self.streams) + 1)
        queue = self.streams[session] = asyncio.Queue()
        self.known.add(session)
        self.headers.append(dict(request.headers))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"event: endpoint\ndata: {self.endpoint.format(session)}\n\n".encode())
        while (event := await queue.get()) is not None:
            await response.write(event)
        return response

    async def _message(self, request: web.Request) -> web.Response:
        session = request.query["session"]
        if session not in self.known:
            return web.Response(status=404)
        message = await request.json()
        self.received.append(message)
        self.heard.set()
        if message.get("method") == "initialize":
            self.send(session, {"jsonrpc": "2.0", "id": message["id"], "result": INTRODUCTION})
        elif "id" in message and "method" in message and (answer := self.answer(message)) is not None:
            self.send(session, answer)
        return web.Response(status=202)
