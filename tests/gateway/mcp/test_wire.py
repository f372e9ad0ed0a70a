"""Attacks on /mcp over raw sockets: one refusal and the end of the connection, or one proper answer; never two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import edge
from tests.support import faulty as faults
from tests.support.faulty import Faulty, faulty
from tests.support.running import Running

BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
QUIET_SECONDS = 2.0
"""After so long a silence the gateway has said what it had to say."""
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
async def server(gateway: Running) -> AsyncIterator[Faulty]:
    async with faulty({"good": faults.good}) as made:
        await gateway.register("wire", base_url=made.url)
        yield made


async def speak(gateway: Running, *pieces: bytes) -> bytes:
    """What the gateway sends until it closes, or until it has nothing more to say."""
    port = int(gateway.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while data := await asyncio.wait_for(reader.read(65536), QUIET_SECONDS):
            heard += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return heard


def statuses(heard: bytes) -> list[int]:
    return [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]]


def post(
    gateway: Running, extra: bytes = b"", body: bytes = BODY, length: bytes | None = None, eol: bytes = b"\r\n"
) -> bytes:
    port = gateway.url.rsplit(":", 1)[1].encode()
    length = b"Content-Length: %d" % len(body) if length is None else length
    lines = [b"POST /mcp HTTP/1.1", b"Host: 127.0.0.1:" + port, b"Authorization: Bearer " + gateway.key.encode()]
    lines += [b"Content-Type: application/json", b"Connection: close", *([length] if length else []), extra]
    return eol.join([line for line in lines if line]) + eol * 2 + body


SMUGGLING = {
    "CL+TE": (b"Transfer-Encoding: chunked", b"0\r\n\r\n" + SMUGGLED, None),
    "TE+CL": (b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, b""),
    "two lengths": (b"Content-Length: 0", SMUGGLED, None),
    "two equal lengths": (b"Content-Length: %d" % len(BODY), BODY, None),
    "a signed length": (b"", BODY, b"Content-Length: +%d" % len(BODY)),
    "a listed length": (b"", BODY, b"Content-Length: 5, 5"),
    "a huge length": (b"", BODY, b"Content-Length: 99999999999999999999999"),
    "two encodings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n" + SMUGGLED, b""),
    "an unknown encoding": (b"Transfer-Encoding: xchunked", b"0\r\n\r\n" + SMUGGLED, b""),
    "a disguised encoding": (b"Transfer-Encoding : chunked", b"0\r\n\r\n" + SMUGGLED, None),
    "a folded header": (b"X-A: b\r\n c", BODY, None),
    "a folded encoding": (b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n" + SMUGGLED, None),
    "a bare return": (b"X-A: b\rTransfer-Encoding: chunked", BODY, None),
    "a bare feed": (b"X-A: b\nTransfer-Encoding: chunked", b"0\r\n\r\n" + SMUGGLED, None),
    "a nul": (b"X-A: b\x00c", BODY, None),
    "a nul in a name": (b"X-\x00A: b", BODY, None),
    "a space in a name": (b"X A: b", BODY, None),
    "two hosts": (b"Host: evil.example", BODY, None),
    "a large header": (b"X-A: " + b"a" * 200_000, BODY, None),
    "many headers": (b"\r\n".join(b"X-%d: a" % number for number in range(2000)), BODY, None),
    "a bad chunk size": (b"Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n", b""),
    "a huge chunk size": (b"Transfer-Encoding: chunked", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", b""),
    "two credentials": (b"Authorization: Bearer other", BODY, None),
}


@pytest.mark.parametrize("case", SMUGGLING)
async def test_what_could_be_read_in_two_ways_is_refused_once(gateway: Running, case: str) -> None:
    extra, body, length = SMUGGLING[case]
    heard = await speak(gateway, post(gateway, extra, body, length))
    found = statuses(heard)
    assert len(found) == 1, heard
    assert 400 <= found[0] < 500, heard
    assert b"connection: close" in heard.lower()


async def test_heads_that_are_no_heads(gateway: Running) -> None:
    port = gateway.url.rsplit(":", 1)[1].encode()
    for head in (
        b"POST /mcp HTTP/1.1\r\n\r\n",
        b"POST /mcp HTTP/1.1\nHost: 127.0.0.1\n\n",
        b"POST  /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /mcp HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /mcp\r\n\r\n",
        b"BREW /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /mcp%00 HTTP/1.1\r\nHost: a/?x=\r\n\r\n",
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\n\r\n",
        b"POST /m\xffcp HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        found = statuses(await speak(gateway, head))
        assert len(found) <= 1, head
        assert all(400 <= status < 500 for status in found), (head, found)


async def test_a_trailer_is_no_header(gateway: Running) -> None:
    port = gateway.url.rsplit(":", 1)[1].encode()
    head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:%b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" % port
    body = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (len(BODY), BODY, gateway.key.encode())
    assert statuses(await speak(gateway, head, body)) == [401]


async def test_a_second_request_behind_the_first_has_an_answer_of_its_own(gateway: Running) -> None:
    """What follows a whole request is a request, refused in its turn without touching the first answer."""
    port = gateway.url.rsplit(":", 1)[1].encode()
    first = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n" % port
    assert statuses(await speak(gateway, first + first)) == [200, 200]
    heard = await speak(gateway, first + b"garbage\r\n\r\n")
    assert statuses(heard)[:1] in ([], [200], [400])
    assert len(statuses(heard)) <= 2


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /mcp HTTP/1.1\r\nHost: ", b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"],
)
async def test_who_stalls_is_shown_out(gateway: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    for name in ("CHECK_SECONDS", "HEAD_SECONDS", "BODY_IDLE_SECONDS"):
        monkeypatch.setattr(edge, name, 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    writer.write(sent)
    try:
        assert statuses(await asyncio.wait_for(reader.read(), 10)) in ([], [403])
    except ConnectionResetError:
        pass
    finally:
        writer.transport.abort()


async def test_who_does_not_read_is_shown_out(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(edge, "WRITE_STALL_SECONDS", 0.2)

    async def endless(call: faults.Call) -> None:
        await call.stream(end=False)
        while True:
            notice = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"%b"}}' % (b"x" * 60_000)
            await call.chunk(call.event(notice))

    async with faulty({"endless": endless}) as server:
        await gateway.register("endless", base_url=server.url)
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "endless__endless", "arguments": {}, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        extra = b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: endless__endless"
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]), limit=1024)
        writer.write(post(gateway, extra, body))
        async with asyncio.timeout(15):
            while not len(gateway.application.path.flights):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(15):
            while len(gateway.application.path.flights):
                await asyncio.sleep(0.05)
        writer.transport.abort()


HOSTILE: dict[str, bytes] = {
    "deep": b"[" * 200_000,
    "deep arguments": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wire__good","arguments":'
    + b"[" * 200_000
    + b"]" * 200_000
    + b"}}",
    "a huge integer": b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % (b"9" * 5000),
    "a surrogate": b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
    "a surrogate in a name": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800 x"}}',
    "NaN": b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    "invalid UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xff\xfe"}}',
    "UTF-16": '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_hostile_json_is_refused_as_such(gateway: Running, server: Faulty, era: str) -> None:
    extra = b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: ping" if era == "modern" else b""
    for name, body in HOSTILE.items():
        heard = await speak(gateway, post(gateway, extra, body))
        assert statuses(heard) in ([400], [404]), (name, heard)
        error = json.loads(heard.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] in (-32700, -32600, -32602, -32020), (name, error)
    assert not any(b"tools/call" in request for request in server.requests)


HOP_BY_HOP = {
    "Connection": "close, X-Secret",
    "X-Secret": "hop-secret",
    "Keep-Alive": "timeout=5",
    "Proxy-Authorization": "Basic proxy-secret",
    "Proxy-Connection": "keep-alive",
    "TE": "trailers",
    "Trailer": "X-Trailer",
    "Forwarded": "for=1.2.3.4",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Host": "evil.example",
    "Cookie": "session=cookie-secret",
    "X-Real-IP": "1.2.3.4",
    "Origin": "",
    "Last-Event-ID": "evil-id",
    "Mcp-Param-Evil": "param-secret",
    "X-Gatehouse-Operator": "operator-secret",
}


def call_body(arguments: Any, **params: Any) -> bytes:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    whole = {"name": "wire__good", "arguments": arguments, "_meta": meta, **params}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": whole}).encode()


async def test_nothing_of_a_clients_head_reaches_the_server(gateway: Running, server: Faulty) -> None:
    lines = [f"{name}: {value}" for name, value in HOP_BY_HOP.items() if value and name != "Connection"]
    extra = "\r\n".join([*lines, "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: wire__good"])
    heard = await speak(gateway, post(gateway, extra.encode(), call_body({"a": 1})))
    assert statuses(heard) == [200], heard
    (request,) = [request for request in server.requests if b"tools/call" in request]
    head = request.partition(b"\r\n\r\n")[0]
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    expected = {b"host", b"content-type", b"accept", b"accept-encoding", b"user-agent", b"content-length"}
    assert names == expected | {b"mcp-protocol-version", b"mcp-session-id"}
    assert gateway.key.encode() not in request
    assert b"secret" not in request
    assert b"1.2.3.4" not in request
    assert b"evil" not in request


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "a\x00b", "a\nb", "\u2028\u0085"])
async def test_line_breaks_in_arguments_and_names_stay_where_they_are(
    gateway: Running, server: Faulty, text: str
) -> None:
    extra = b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: wire__good"
    heard = await speak(gateway, post(gateway, extra, call_body({text: text})))
    assert statuses(heard) == [200], heard
    (request,) = [request for request in server.requests if b"tools/call" in request]
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"evil" not in head.lower()
    assert json.loads(body)["params"]["arguments"] == {text: text}
    before = len(server.requests)
    heard = await speak(gateway, post(gateway, extra, call_body({}, name=text)))
    assert statuses(heard) == [400], heard
    assert len(server.requests) == before
