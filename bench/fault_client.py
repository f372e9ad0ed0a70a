"""A small asynchronous client for `bench/faults`: one call on a kept connection, with the time that it took."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from bench.client import MODERN

PREFIX = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class Ended:
    """How a call ended: `ok`, a JSON-RPC error's code, or `broken`."""

    outcome: str
    seconds: float


class Caller:
    """Calls tools over one connection at a time."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._port, self._headers = port, headers
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, tool: str) -> Ended:
        began = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
            self._writer.write(self._request(tool))
            outcome = await self._answer()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            outcome = "broken"
            self.close()
        return Ended(outcome, time.perf_counter() - began)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    def _request(self, tool: str) -> bytes:
        meta = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}
        params = {"name": tool, "arguments": {"text": "x" * 100}, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        lines = [
            "POST /mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            f"MCP-Protocol-Version: {MODERN}",
            "Mcp-Method: tools/call",
            f"Mcp-Name: {tool}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]
        return ("\r\n".join([*lines, "", ""]) + body).encode()

    async def _answer(self) -> str:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            body = await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        else:
            pieces: list[bytes] = []
            while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                pieces.append((await self._reader.readexactly(size + 2))[:-2])
            await self._reader.readexactly(2)
            body = b"".join(pieces)
        texts = [line[5:] for line in body.splitlines() if line.startswith(b"data:")] or [body]
        message = json.loads(texts[-1])
        return str(message["error"]["code"]) if "error" in message else "ok"
