"""HTTP/1.1 on a unix socket for one path, as little of it as MCP needs: kept-alive connections, bodies of known length.

A request whose tool tells progress is answered by server-sent events, any other by one JSON body. A connection that is
closed while its request is under way cancels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from workspace_runtime.inside import protocol
from workspace_runtime.inside.protocol import Reply, Server

PATH = "/mcp"
READY = "/ready"
HEAD_BYTES = 64 * 1024
BODY_BYTES = 24 * 1024 * 1024
"""More than the largest file that a tool writes, as base64 and with its escapes."""
KEEP_ALIVE_SECONDS = 20.0
"""How often a comment is sent on a quiet event stream."""
_WORDS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Too Large"}


class _Malformed(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def keeps(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Door:
    """The socket's side of the server: requests to it, and which of them are under way.

    `cancelled` of older revisions names a request by session and id; sessions are names and nothing else.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._under_way: dict[tuple[str, str], asyncio.Task[Any]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        ahead = b""
        try:
            while (request := await _read(reader, ahead)) is not None:
                ahead = await self._answer(request, reader, writer)
                if not request.keeps:
                    break
        except _Malformed as malformed:
            await _send(writer, malformed.status, {"message": str(malformed)}, close=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer a request and give the bytes that came meanwhile."""
        if request.path == READY:
            await _send(writer, 200, {"ready": True})
            return b""
        if request.path != PATH:
            await _send(writer, 404, {"message": f"there is {PATH} only"})
            return b""
        if request.method != "POST":
            await _send(writer, 405, {"message": "only POST"}, ("Allow: POST",))
            return b""
        message = _message(request.body)
        if isinstance(message, Reply):
            await _send(writer, message.status, message.body)
            return b""
        if "method" not in message or "id" not in message:
            self._notice(message, request.headers)
            await _send(writer, 202, None)
            return b""
        return await self._exchange(message, request, reader, writer)

    async def _exchange(
        self, message: dict[str, Any], request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        answering = asyncio.create_task(self._respond(message, request.headers, writer))
        leaving = asyncio.create_task(reader.read(1))
        key = (request.headers.get("mcp-session-id", ""), json.dumps(message["id"]))
        self._under_way[key] = answering
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done() and (leaving.exception() is not None or not leaving.result())
            if gone and not answering.done():
                answering.cancel()
            await asyncio.wait({answering})
            if answering.cancelled() or gone:
                raise ConnectionResetError
            answering.result()
            if leaving.done():
                return leaving.result()
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await leaving
            return b""
        finally:
            self._under_way.pop(key, None)
            for task in (answering, leaving):
                task.cancel()

    async def _respond(self, message: dict[str, Any], headers: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        token = protocol.progress_token(message)
        extra: tuple[str, ...] = ()
        if message["method"] == "initialize":
            extra = (f"Mcp-Session-Id: {secrets.token_hex(16)}",)
        if token is None or message["method"] != "tools/call" or "text/event-stream" not in headers.get("accept", ""):
            reply = await self._server.request(message, headers, lambda done, said: None)
            await _send(writer, reply.status, reply.body, extra)
            return
        stream = _Events(writer)
        asking = asyncio.create_task(
            self._server.request(message, headers, lambda done, said: stream.say(protocol.progress(token, done, said)))
        )
        try:
            reply = await stream.carry(asking)
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        if stream.begun:
            await stream.end(reply.body)
        else:
            await _send(writer, reply.status, reply.body)

    def _notice(self, message: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        if message.get("method") == "notifications/cancelled":
            params = message.get("params", {})
            task = self._under_way.get((headers.get("mcp-session-id", ""), json.dumps(params.get("requestId"))))
            if task is not None:
                task.cancel()


class _Events:
    """An answer as server-sent events, which begins with the first thing that is said."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.begun = False

    def say(self, message: dict[str, Any]) -> None:
        self._queue.put_nowait(message)

    async def carry(self, asking: asyncio.Task[Reply]) -> Reply:
        """Hand on what is said until the answer is there."""
        while True:
            next_said = asyncio.create_task(self._queue.get())
            try:
                waiting = {asking, next_said}
                await asyncio.wait(waiting, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if next_said.done():
                    await self._write(next_said.result())
                elif asking.done():
                    return asking.result()
                elif self.begun:
                    await self._chunk(b": still at it\n\n")
            finally:
                next_said.cancel()

    async def end(self, message: dict[str, Any]) -> None:
        await self._write(message)
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _write(self, message: dict[str, Any]) -> None:
        if not self.begun:
            self.begun = True
            self._writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
        await self._chunk(b"event: message\ndata: " + _json(message) + b"\n\n")

    async def _chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _message(body: bytes) -> dict[str, Any] | Reply:
    """The request in a body, or the answer to what is none."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return _error(protocol.PARSE_ERROR, "the body is no JSON")
    if not isinstance(parsed, dict):
        return _error(protocol.INVALID_REQUEST, "the body is no JSON-RPC message")
    message = cast("dict[str, Any]", parsed)
    if not isinstance(message.get("method", ""), str):
        return _error(protocol.INVALID_REQUEST, "the body is no JSON-RPC message")
    if message.get("jsonrpc") != "2.0" or not isinstance(message.get("id", 0), str | int):
        return _error(protocol.INVALID_REQUEST, "the body is no JSON-RPC 2.0 message")
    return message


def _error(code: int, words: str) -> Reply:
    return Reply({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": words}}, 400)


async def _read(reader: asyncio.StreamReader, ahead: bytes) -> _Request | None:
    try:
        head = ahead + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Malformed(400, "the headers are too long") from None
    except asyncio.IncompleteReadError as error:
        if error.partial or ahead:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise _Malformed(400, "the request line has not three words")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise _Malformed(400, "a body must have a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise _Malformed(400, "Content-Length is no number")
    if int(length) > BODY_BYTES:
        raise _Malformed(413, f"a request has at most {BODY_BYTES} bytes")
    body = await reader.readexactly(int(length))
    return _Request(words[0], words[1].partition("?")[0], headers, body)


async def _send(
    writer: asyncio.StreamWriter, status: int, body: Any, extra: tuple[str, ...] = (), *, close: bool = False
) -> None:
    data = b"" if body is None else _json(body)
    lines = [f"HTTP/1.1 {status} {_WORDS.get(status, 'Error')}", f"Content-Length: {len(data)}", *extra]
    lines += ["Content-Type: application/json"] if data else []
    lines += ["Connection: close"] if close else []
    writer.write("\r\n".join([*lines, "", ""]).encode() + data)
    await writer.drain()
