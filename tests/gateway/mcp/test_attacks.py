"""The attacks on the HTTP edge, one test for each, on a whole gateway over real sockets: rebinding, forged addresses,
header smuggling, a split between head and body, request smuggling, abusive JSON, bombs, and clients that are slow.

The cases of request smuggling, of hostile JSON and of heads that reach a server are `test_wire`'s.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import edge
from tests.gateway.mcp.door import MODERN, opened
from tests.gateway.mcp.exchange import META
from tests.gateway.mcp.test_wire import BODY, post, speak, statuses
from tests.support import faulty as faults
from tests.support.faulty import Faulty, faulty
from tests.support.running import Running

SLOW = 1000
LIMIT = 60.0


@pytest.fixture
async def server(gateway: Running) -> AsyncIterator[Faulty]:
    async with faulty({"good": faults.good, "danger": faults.good}, modern=True) as made:
        await gateway.register("wire", base_url=made.url)
        yield made


def port_of(gateway: Running) -> int:
    return int(gateway.url.rsplit(":", 1)[1])


async def opened_to(gateway: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(gateway))


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the gateway has closed the connection, before long."""
    try:
        async with asyncio.timeout(LIMIT):
            while await reader.read(65536):
                pass
    except ConnectionError:
        return True
    return True


async def test_attack_4_rebinding_finds_no_door(gateway: Running) -> None:
    own = f"Host: 127.0.0.1:{port_of(gateway)}"
    foreign = ["Host: evil.example", "Host: a/?x=", f"{own}\r\nOrigin: http://evil.example", f"{own}\r\nOrigin: null"]
    for path in ("/mcp", "/servers/wire/mcp", "/sse", "/v1/mcp/servers", "/metrics", "/health"):
        for head in foreign:
            lines = [f"GET {path} HTTP/1.1", head, "Connection: close", f"Authorization: Bearer {gateway.key}"]
            heard = await speak(gateway, "\r\n".join([*lines, "", ""]).encode())
            assert statuses(heard) in ([400], [403]), heard
            assert b"access-control-allow-origin" not in heard.lower()


async def test_attack_5_forged_addresses_do_not_lift_the_limit_on_logins(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", rate_limits="on") as door:
        seen: list[int] = []
        for number in range(40):
            body = {"email": "admin@example.org", "password": f"wrong-{number}"}
            forged = {"X-Forwarded-For": f"203.0.113.{number}", "X-Real-IP": f"203.0.113.{number}"}
            headers = {"Content-Type": "application/json", **forged}
            seen.append((await door.send("POST", "/v1/auth/login", headers, json.dumps(body).encode())).status)
        assert seen[-1] == 429
        assert seen.index(429) <= 11


async def test_attack_6_nothing_is_smuggled_into_a_servers_head(gateway: Running, server: Faulty) -> None:
    body = modern_call("wire__good")
    evil = b"X-Secret: s3cret\r\nConnection: close, X-Secret\r\nProxy-Authorization: Basic s3cret\r\nTE: trailers"
    heard = await speak(gateway, post(gateway, mirrors("wire__good") + b"\r\n" + evil, body))
    assert statuses(heard) == [200], heard
    (request,) = [request for request in server.requests if b"tools/call" in request]
    head = request.partition(b"\r\n\r\n")[0].lower()
    assert b"s3cret" not in head
    assert gateway.key.encode().lower() not in head
    assert b"\r\nconnection:" not in head
    assert b"transfer-encoding" not in head


async def test_attack_7_what_the_head_names_is_what_the_body_calls(gateway: Running, server: Faulty) -> None:
    before = server.calls
    for name in ("wire__good", "WIRE__DANGER", "wire__danger ", "=?base64?d2lyZV9fZ29vZA==?="):
        heard = await speak(gateway, post(gateway, mirrors(name), modern_call("wire__danger")))
        if name.strip() == "wire__danger":
            # White space around a header's value is not part of it.
            assert statuses(heard) == [200], heard
            before += 1
            continue
        assert statuses(heard) == [400], heard
        assert b"-32020" in heard, heard
    assert server.calls == before


async def test_attack_8_pipelined_requests_are_answered_in_turn_and_read_no_faster(
    gateway: Running, server: Faulty
) -> None:
    one = post(gateway).replace(b"Connection: close\r\n", b"")
    reader, writer = await opened_to(gateway)
    number = 300
    writer.write(one * number)
    heard = b""
    async with asyncio.timeout(LIMIT):
        while len(statuses(heard)) < number:
            heard += await reader.read(65536)
    writer.close()
    assert len(set(statuses(heard))) == 1
    # A smuggled second request behind a refused first one is never answered.
    heard = await speak(gateway, post(gateway, b"Transfer-Encoding: chunked", b"0\r\n\r\n" + one))
    assert statuses(heard) == [400], heard


async def test_attack_9_json_and_heads_without_measure_are_refused_and_others_served(gateway: Running) -> None:
    deep = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    huge = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"x" * (5 * 1024 * 1024) + b'"}}'
    heads = b"\r\n".join(b"X-%d: %b" % (number, b"y" * 500) for number in range(200))
    served = asyncio.create_task(_served(gateway, 20))
    for attack, expected in (
        (post(gateway, body=deep), {400, 413}),
        (post(gateway, body=huge), {413}),
        (post(gateway, heads), {400, 431}),
    ):
        found = statuses(await speak(gateway, attack))
        assert len(found) == 1
        assert found[0] in expected
    await served


async def test_attack_10_a_compressed_body_is_never_unpacked(gateway: Running) -> None:
    packed = gzip.compress(bytes(50_000_000), 1)
    heard = await speak(gateway, post(gateway, b"Content-Encoding: gzip", packed))
    assert statuses(heard) in ([400], [415]), heard[:300]
    packed = gzip.compress(BODY)
    heard = await speak(gateway, post(gateway, b"Content-Encoding: gzip", packed))
    assert statuses(heard) in ([400], [415]), heard[:300]


async def test_attack_11_a_thousand_slow_clients_are_cut_while_others_are_served(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(edge, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(edge, "BODY_IDLE_SECONDS", 1.0)
    host = f"Host: 127.0.0.1:{port_of(gateway)}\r\n".encode()
    kinds = [
        b"",
        b"POST /mcp HT",
        b"POST /mcp HTTP/1.1\r\n" + host + b"X-Slow: ",
        b"POST /mcp HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n\r\n{",
    ]
    slow: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for number in range(SLOW):
        pair = await opened_to(gateway)
        pair[1].write(kinds[number % len(kinds)])
        slow.append(pair)
    await _served(gateway, 10)
    assert all(await asyncio.gather(*(is_closed(reader) for reader, _ in slow)))
    for _, writer in slow:
        writer.transport.abort()
    await _served(gateway, 1)


async def _served(gateway: Running, times: int) -> None:
    """An ordinary client is answered, as often."""
    for _ in range(times):
        async with asyncio.timeout(LIMIT):
            async with gateway.http.get(f"{gateway.url}/livez") as answer:
                assert answer.status == 200
            status, _ = await gateway.rest("GET", "/v1/mcp/servers")
            assert status == 200


def modern_call(name: str) -> bytes:
    params: dict[str, Any] = {"name": name, "arguments": {}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def mirrors(name: str) -> bytes:
    return f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: {name}".encode()
