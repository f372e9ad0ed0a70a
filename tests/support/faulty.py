"""An MCP server that misbehaves: each of its tools is one fault. It introduces itself and lists properly.

Raw HTTP over asyncio, either era, so that a test decides about every byte. What it saw is kept: raw requests, the
notifications that reached it, and how many calls were given up by closing their connection.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
DRIP_SECONDS = 0.05
LIMIT = 60
"""Of waiting for what will happen unless something is wrong, in seconds; machines may be busy."""
NOISE = random.Random(1).randbytes(200_000).hex()
"""Text that stays large when it is compressed."""
JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(eq=False)
class Call:
    """One `tools/call` that reached the server, and the means to answer it badly."""

    server: Faulty
    message: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def id(self) -> Any:
        return self.message["id"]

    def result(self, text: str = "done", **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = {"content": [{"type": "text", "text": text}], **more}
        return {"resultType": "complete", **made} if self.server.modern else made

    def answer(self, identifier: Any = None, **members: Any) -> bytes:
        """A JSON-RPC answer; by default a good one."""
        members = members or {"result": self.result()}
        return json.dumps({"jsonrpc": "2.0", "id": self.id if identifier is None else identifier, **members}).encode()

    def event(self, data: bytes) -> bytes:
        return b"event: message\ndata: " + data + b"\n\n"

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def whole(self, body: bytes, kind: str = JSON, status: int = 200, **headers: str) -> None:
        await self.send(http_head(status, kind, len(body), **headers) + body)

    async def stream(self, *events: bytes, end: bool = True, **headers: str) -> None:
        """A chunked event stream."""
        head = http_head(200, EVENTS, None, **headers)
        await self.send(head, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events))
        if end:
            await self.send(b"0\r\n\r\n")

    async def at_once(self, *messages: bytes) -> None:
        """A whole event stream in one write, so that it comes in one piece."""
        events = b"".join(map(self.event, messages))
        await self.send(http_head(200, EVENTS, None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events))

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(65536):
            pass
        self.server.given_up += 1

    def reset(self) -> None:
        """Close with a reset instead of a proper end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Call], Awaitable[None]]


def http_head(status: int, kind: str | None, length: int | None, **headers: str) -> bytes:
    """A response's head; without a length it is chunked."""
    lines = [f"HTTP/1.1 {status} Faulty"]
    lines += [f"content-type: {kind}"] if kind else []
    lines += ["transfer-encoding: chunked"] if length is None else [f"content-length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(eq=False)
class Faulty:
    """The server; `async with faulty(...)` runs one.

    Args:
        faults: what each tool does.
        modern: speaks the revision without sessions, and nothing else.
        tls: the server's context, where it speaks TLS.
    """

    faults: dict[str, Fault]
    modern: bool = False
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    notifications: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    """What clients answered to requests of this server."""
    calls: int = 0
    """How many calls of tools arrived."""
    given_up: int = 0
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    sessions: int = 0
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Notified whenever a message arrives or a connection ends."""
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until a condition holds that arriving messages or ending connections bring about."""
        async with self.heard:
            await asyncio.wait_for(self.heard.wait_for(met), LIMIT)

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=8 * 1024 * 1024, backlog=1024, ssl=self.tls
        )

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self.connections):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                head, body = request
                self.requests.append(head + body)
                self.calls += b'"tools/call"' in body
                await self._tell()
                await self._deal_with(head, body, reader, writer)
                await self._tell()
        except (OSError, asyncio.IncompleteReadError):
            pass  # who connected has gone
        finally:
            self.connections.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            await self._tell()

    async def _tell(self) -> None:
        async with self.heard:
            self.heard.notify_all()

    async def _deal_with(
        self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not head.startswith(b"POST"):
            writer.write(http_head(405, None, 0))
            return
        message = json.loads(body)
        if "method" not in message or "id" not in message:
            (self.notifications if "method" in message else self.answers).append(message)
            writer.write(http_head(202, None, 0))
            return
        call = Call(self, message, reader, writer)
        if message["method"] == "tools/call":
            await self.faults[message["params"]["name"]](call)
            return
        result = self._introduction(message["method"])
        if result is None:
            error = {"code": -32601, "message": f"no {message['method']} here"}
            await call.whole(call.answer(error=error), status=404 if self.modern else 200)
            return
        headers = {}
        if message["method"] == "initialize":
            self.sessions += 1
            headers = {"mcp_session_id": f"session-{self.sessions}"}
        await call.whole(call.answer(result=result), **headers)

    def _introduction(self, method: str) -> dict[str, Any] | None:
        offered: dict[str, dict[str, Any]] = {"capabilities": {"tools": {}}}
        if method == "initialize" and not self.modern:
            return {"protocolVersion": LEGACY, "serverInfo": {"name": "faulty", "version": "1"}, **offered}
        if method == "server/discover" and self.modern:
            return {"resultType": "complete", "supportedVersions": [MODERN], **offered}
        if method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in self.faults]
            return {"tools": tools, **({"resultType": "complete"} if self.modern else {})}
        return None


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head, await reader.readexactly(int(line.partition(b":")[2]))
    return head, b""


@asynccontextmanager
async def faulty(
    faults: dict[str, Fault], *, modern: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Faulty]:
    """A misbehaving server for the length of the block."""
    server = Faulty(faults, modern, tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


# -- the faults


async def good(call: Call) -> None:
    await call.whole(call.answer())


async def good_events(call: Call) -> None:
    await call.stream(call.event(call.answer()))


async def hang(call: Call) -> None:
    await call.gone()


async def hang_after_head(call: Call) -> None:
    await call.send(http_head(200, JSON, 1000))
    await call.gone()


async def hang_as_events(call: Call) -> None:
    await call.stream(end=False)
    await call.gone()


async def drip(call: Call) -> None:
    body = call.answer(result=call.result("x" * 1000))
    await call.send(http_head(200, JSON, len(body)))
    for byte in body:
        await call.send(bytes([byte]))
        await asyncio.sleep(DRIP_SECONDS)


async def drip_large(call: Call) -> None:
    """Too large to be buffered, so its client is given it piece by piece, for ever."""
    await call.send(http_head(200, JSON, 1_000_000_000), b'{"jsonrpc":"2.0","result":{"content":"')
    while True:
        await call.send(b"x" * 1000)
        await asyncio.sleep(DRIP_SECONDS)


async def drip_comments(call: Call) -> None:
    await call.stream(end=False)
    while True:
        await call.chunk(b": still here\n\n")
        await asyncio.sleep(DRIP_SECONDS)


async def reset_before(call: Call) -> None:
    call.reset()


async def reset_amid(call: Call) -> None:
    body = call.answer()
    await call.send(http_head(200, JSON, len(body)) + body[:-10])
    await asyncio.sleep(0.01)
    call.reset()


async def reset_amid_events(call: Call) -> None:
    await call.stream(b": hello\n\n", call.event(call.answer())[:-10], end=False)
    await asyncio.sleep(0.01)
    call.reset()


async def close_amid(call: Call) -> None:
    body = call.answer()
    await call.send(http_head(200, JSON, len(body)) + body[:-10])
    call.writer.close()


async def invalid_json(call: Call) -> None:
    await call.whole(b'{"jsonrpc":"2.0","id":1,"result":{nope')


async def invalid_utf8(call: Call) -> None:
    await call.whole(call.answer(result=call.result("MARK")).replace(b"MARK", b"\xff\xfe"))


async def too_deep(call: Call) -> None:
    await call.whole(call.answer(result=["DEEP"]).replace(b'"DEEP"', b"[" * 60000 + b"]" * 60000))


async def wrong_id(call: Call) -> None:
    await call.whole(call.answer("other"))


async def wrong_id_in_events(call: Call) -> None:
    await call.stream(call.event(call.answer("other", result=call.result("forged"))))


async def no_result(call: Call) -> None:
    await call.whole(json.dumps({"jsonrpc": "2.0", "id": call.id}).encode())


async def result_no_object(call: Call) -> None:
    await call.whole(call.answer(result=5))


async def result_no_object_in_events(call: Call) -> None:
    await call.stream(call.event(call.answer(result=[1, 2])))


async def error_no_object(call: Call) -> None:
    await call.whole(call.answer(error="boom"))


async def error_no_object_in_events(call: Call) -> None:
    await call.stream(call.event(call.answer(error="boom")))


async def is_error_no_boolean(call: Call) -> None:
    await call.whole(call.answer(result=call.result(isError="yes")))


async def duplicate(call: Call) -> None:
    """Two whole responses to one request, in one piece."""
    twice = call.answer(result=call.result("first")), call.answer(result=call.result("second"))
    await call.send(b"".join(http_head(200, JSON, len(body)) + body for body in twice))


async def late(call: Call) -> None:
    """A second answer on the stream after the first, which then stays open."""
    events = (call.event(call.answer(result=call.result(text))) for text in ("first", "second"))
    await call.stream(*events, end=False)
    await call.gone()


async def open_after_answer(call: Call) -> None:
    await call.stream(call.event(call.answer()), end=False)
    while True:
        await call.chunk(b": still here\n\n")
        await asyncio.sleep(DRIP_SECONDS)


async def html_500(call: Call) -> None:
    await call.whole(b"<h1>Internal Server Error</h1>", "text/html", 500)


async def html_503(call: Call) -> None:
    await call.whole(b"<h1>Busy</h1>", "text/html", 503)


async def json_500(call: Call) -> None:
    await call.whole(call.answer(), status=500)


async def no_content(call: Call) -> None:
    await call.send(b"HTTP/1.1 204 Faulty\r\n\r\n")


async def giant(call: Call) -> None:
    """A terabyte of one JSON text, as fast as it is read."""
    await call.send(http_head(200, JSON, 1 << 40), b'{"jsonrpc":"2.0","result":{"content":"')
    while True:
        await call.send(b"x" * 65536)


async def giant_event(call: Call) -> None:
    """One event that never ends."""
    await call.stream(b"data: ", end=False)
    while True:
        await call.chunk(b"x" * 65536)


async def zipped(call: Call) -> None:
    await call.whole(gzip.compress(call.answer()), content_encoding="gzip")


async def zipped_large(call: Call) -> None:
    await call.whole(gzip.compress(call.answer(result=call.result(NOISE)), 1), content_encoding="gzip")


async def bomb(call: Call) -> None:
    """A few hundred kilobytes that would become 100 megabytes."""
    await call.whole(_bomb(), content_encoding="gzip")


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(bytes(100_000_000), 1)


async def zipped_events(call: Call) -> None:
    await call.stream(gzip.compress(call.event(call.answer())), content_encoding="gzip")


async def redirect(call: Call) -> None:
    await call.send(http_head(307, None, 0, location=call.server.url.replace("/mcp", "/elsewhere")))


async def no_answer(call: Call) -> None:
    await call.stream(b": nothing\n\n", call.event(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}'))


async def asks(call: Call) -> None:
    """A request of the server's on the stream, and nothing after it."""
    asked = {"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {"messages": []}}
    await call.stream(call.event(json.dumps(asked).encode()), end=False)
    await call.gone()


async def bad_chunks(call: Call) -> None:
    await call.send(http_head(200, JSON, None), b"zz\r\nnot a chunk\r\n")


async def huge_headers(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 Faulty\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"y" * 1000) for n in range(200)))
    await call.whole(call.answer())


async def interim(call: Call) -> None:
    """Interim responses before the real one; what they say does not count."""
    await call.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\ncontent-type: text/event-stream\r\n\r\n")
    await call.whole(call.answer())


async def lost_session(call: Call) -> None:
    await call.send(http_head(404, None, 0))


async def switches(call: Call) -> None:
    await call.send(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nwhatever")


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        good,
        good_events,
        hang,
        hang_after_head,
        hang_as_events,
        drip,
        drip_large,
        drip_comments,
        reset_before,
        reset_amid,
        reset_amid_events,
        close_amid,
        invalid_json,
        invalid_utf8,
        too_deep,
        wrong_id,
        wrong_id_in_events,
        no_result,
        result_no_object,
        result_no_object_in_events,
        error_no_object,
        error_no_object_in_events,
        is_error_no_boolean,
        duplicate,
        late,
        open_after_answer,
        html_500,
        html_503,
        json_500,
        no_content,
        giant,
        giant_event,
        zipped,
        zipped_large,
        zipped_events,
        redirect,
        no_answer,
        asks,
        bad_chunks,
        huge_headers,
        interim,
        lost_session,
        switches,
    )
}
