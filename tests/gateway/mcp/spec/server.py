"""A server of one era that offers some of everything, and keeps every request that reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.faulty import EVENTS, LEGACY, MODERN, Call, Fault, Faulty, hang, http_head

META = "io.modelcontextprotocol/"
NOTE = "note://one"
TEMPLATE = "note://about/{topic}"
FORM = {"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
VISIT = {"mode": "url", "elicitationId": "visit-1", "url": "https://example.com/visit", "message": "Please visit"}
HEADERS_SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
    },
}
RESOURCE_NOT_FOUND, INVALID_PARAMS, METHOD_NOT_FOUND, URL_NEEDED = -32002, -32602, -32601, -32042


def note(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


async def echo(call: Call) -> None:
    """What it was sent, with a member that nobody knows."""
    arguments = call.message["params"].get("arguments", {})
    await call.whole(call.answer(result=call.result(json.dumps(arguments), **{"x-unknown": {"a": [1]}})))


async def fail(call: Call) -> None:
    await call.whole(call.answer(result=call.result("it failed", isError=True)))


async def refuse(call: Call) -> None:
    await call.whole(call.answer(error={"code": INVALID_PARAMS, "message": "not so", "data": {"why": "x"}}))


async def listed(call: Call) -> None:
    """Structured content that is no object, which only the modern era has."""
    await call.whole(call.answer(result=call.result("[1, 2]", structuredContent=[1, 2])))


async def progress(call: Call) -> None:
    token = call.message["params"].get("_meta", {}).get("progressToken")
    events = [call.event(note("notifications/progress", progressToken=token, progress=n, total=2)) for n in (1, 2)]
    await call.stream(*(events if token is not None else []), call.event(call.answer()))


async def log(call: Call) -> None:
    events = [call.event(note("notifications/message", level=level, data=level)) for level in ("debug", "error")]
    await call.stream(*events, call.event(call.answer()))


async def ask(call: Call) -> None:
    """Ask for what `kind` says, as this era does it, and tell what came."""
    params = call.message["params"]
    methods = {"form": ("elicitation/create", FORM), "roots": ("roots/list", {})}
    methods["sample"] = ("sampling/createMessage", {"messages": [], "maxTokens": 5})
    method, asked = methods[params.get("arguments", {}).get("kind", "form")]
    server = call.server
    assert isinstance(server, Spoken)
    if server.modern:
        if "inputResponses" not in params:
            request = {"q1": {"method": method, "params": asked}}
            waits = {"resultType": "input_required", "inputRequests": request, "requestState": "mine"}
            await call.whole(call.answer(result=waits))
            return
        told = {"answer": params["inputResponses"]["q1"], "state": params.get("requestState")}
        await call.whole(call.answer(result=call.result(json.dumps(told))))
        return
    server.asked += 1
    identifier = f"asked-{server.asked}"
    request = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": asked}
    await call.stream(call.event(json.dumps(request).encode()), end=False)
    await server.until(lambda: any(answer["id"] == identifier for answer in server.answers))
    (given,) = [answer for answer in server.answers if answer["id"] == identifier]
    told = {"answer": given.get("result", given.get("error"))}
    await call.chunk(call.event(call.answer(result=call.result(json.dumps(told)))))
    await call.send(b"0\r\n\r\n")


async def visit(call: Call) -> None:
    """A legacy server that wants a page visited first, once."""
    server = call.server
    assert isinstance(server, Spoken)
    server.visits += 1
    if server.visits % 2:
        error = {"code": URL_NEEDED, "message": "A visit is needed", "data": {"elicitations": [VISIT]}}
        await call.whole(call.answer(error=error))
    else:
        await call.whole(call.answer(result=call.result("visited")))


async def pings(call: Call) -> None:
    """A legacy server that sees whether its client is there."""
    request = {"jsonrpc": "2.0", "id": "are-you-there", "method": "ping"}
    await call.stream(call.event(json.dumps(request).encode()), end=False)
    await call.server.until(lambda: any(answer["id"] == "are-you-there" for answer in call.server.answers))
    await call.chunk(call.event(call.answer()))
    await call.send(b"0\r\n\r\n")


TOOLS: dict[str, Fault] = {
    one.__name__: one for one in (echo, fail, refuse, listed, progress, log, ask, visit, pings, hang)
} | {"mirrored": echo}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "echo": {
        "title": "Echo",
        "annotations": {"readOnlyHint": False},
        "x-unknown": {"a": 1},
        "icons": [{"src": "https://example.com/i.png"}],
    },
    "listed": {"outputSchema": {"type": "array", "items": {"type": "integer"}}},
    "mirrored": {"inputSchema": HEADERS_SCHEMA},
}


@dataclass(eq=False)
class Spoken(Faulty):
    """The server. `push` tells whoever listens."""

    asked: int = 0
    visits: int = 0
    ended: list[str] = field(default_factory=list)
    """Ids of sessions that its client has ended."""
    forgotten: set[str] = field(default_factory=set)
    lines: list[Call] = field(default_factory=list)

    async def push(self, method: str, **params: Any) -> None:
        for line in self.lines:
            meta = {"_meta": {f"{META}subscriptionId": line.message["id"]}} if self.modern else {}
            await line.chunk(line.event(note(method, **meta, **params)))

    async def _deal_with(
        self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        session = _header(head, b"mcp-session-id")
        call = Call(self, json.loads(body) if body else {}, reader, writer)
        if head.startswith(b"DELETE") and not self.modern:
            self.ended.append(session)
            await call.send(http_head(204, None, 0))
        elif session and session in self.forgotten:
            await call.send(http_head(404, None, 0))
        elif (head.startswith(b"GET") and not self.modern) or call.message.get("method") == "subscriptions/listen":
            await self._stay(call)
        else:
            await super()._deal_with(head, body, reader, writer)

    async def _stay(self, call: Call) -> None:
        await call.send(http_head(200, EVENTS, None))
        if self.modern:
            wanted = call.message["params"]["notifications"]
            meta = {f"{META}subscriptionId": call.id}
            event = note("notifications/subscriptions/acknowledged", _meta=meta, notifications=wanted)
            await call.chunk(call.event(event))
        self.lines.append(call)
        await self._tell()
        try:
            while await call.reader.read(65536):
                pass
        finally:
            self.lines.remove(call)

    def _introduction(self, method: str) -> dict[str, Any] | None:
        """The answers that are the same whoever asks."""
        complete = {"resultType": "complete"} if self.modern else {}
        if method == "initialize" and not self.modern:
            return {"protocolVersion": LEGACY, "serverInfo": {"name": "spoken", "version": "1"}, **_OFFERED}
        if method == "server/discover" and self.modern:
            return {**complete, "supportedVersions": [MODERN], "instructions": "Be kind.", **_OFFERED}
        if method == "tools/list":
            made = [{"name": name, "inputSchema": {"type": "object"}, **DEFINITIONS.get(name, {})} for name in TOOLS]
            return {**complete, "tools": made}
        found = {
            "resources/list": {"resources": [{"uri": NOTE, "name": "one", "x-unknown": 1}]},
            "resources/templates/list": {"resourceTemplates": [{"uriTemplate": TEMPLATE, "name": "about"}]},
            "prompts/list": {"prompts": [{"name": "review", "arguments": [{"name": "language", "required": True}]}]},
            "completion/complete": {"completion": {"values": ["python", "pascal"], "total": 2, "hasMore": False}},
            "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "Review"}}]},
            "resources/read": {"contents": [{"uri": NOTE, "mimeType": "text/plain", "text": "A note."}]},
            "logging/setLevel": {},
            "resources/subscribe": {},
            "ping": {},
        }.get(method)
        return None if found is None else {**complete, **found}

    def requests_of(self, method: str) -> list[tuple[bytes, dict[str, Any]]]:
        """Head, in lower case, and message of every request of a method that came."""
        found: list[tuple[bytes, dict[str, Any]]] = []
        for request in self.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            message = json.loads(body) if body else {}
            if message.get("method") == method:
                found.append((head.lower() + b"\r\n", message))
        return found


_OFFERED: dict[str, Any] = {
    "capabilities": {
        "tools": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "prompts": {"listChanged": True},
        "completions": {},
        "logging": {},
    }
}


def _header(head: bytes, name: bytes) -> str:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((value.strip().decode() for found, _, value in lines if found == name), "")


@asynccontextmanager
async def spoken(*, modern: bool) -> AsyncIterator[Spoken]:
    server = Spoken(TOOLS, modern)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
