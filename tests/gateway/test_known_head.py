"""Known heads: a connection reads the same out of whatever it is sent, with them and without."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.busy_polling import BusyPolling
from gateway.cycle import SHORT, Cycle
from gateway.edge import GuardedHttp
from gateway.known_head import KnownHead
from gateway.mcp.upstream import pool as pool_module
from gateway.mcp.upstream.pool import BodyStream, Pool, Response

HEAD = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Odd: content-length: 7\r\n\r\n"


def message(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 1000, b"\r\n\r\n"])
def test_the_same_head_with_another_length_is_known(body: bytes) -> None:
    known = KnownHead.of(message(b"first"))
    assert known is not None
    assert known.body(message(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        message(b"{}") + b"G",
        message(b"{}")[:-1],
        message(b"{}")[:30],
        message(b"{}") * 2,
        message(b"{}").replace(b"Host: x", b"Host: y"),
        message(b"{}").replace(b"X-Odd", b"X-Add"),
        message(b"{}").replace(b"Length: 2", b"Length: +2"),
        message(b"{}").replace(b"Length: 2", b"Length: 2 "),
        message(b"{}").replace(b"Length: 2", b"Length: \xb2"),
        message(b"{}").replace(b"Length: 2", b"Length: 0000000002"),
        message(b"{}").replace(b"Length: 2", b"Length: "),
        b"",
    ],
)
def test_anything_else_is_not(data: bytes) -> None:
    known = KnownHead.of(message(b"first"))
    assert known is not None
    assert known.body(data) is None


@pytest.mark.parametrize(
    "data",
    [
        message(b"{}") + b"G",
        message(b"{}")[:-1],
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"",
    ],
)
def test_only_one_whole_message_with_a_length_is_remembered(data: bytes) -> None:
    assert KnownHead.of(data) is None


class Wire(asyncio.Transport):
    """The other side of a connection; what is written to it matters only as far as it is closed."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading


PLAIN = b"POST /mcp?a=1 HTTP/1.1\r\nhost: x\r\nauthorization: one\r\ncontent-length: %d\r\n\r\n"
REQUESTS = [
    (PLAIN, b"body"),
    (PLAIN, b"another body"),
    (PLAIN, b""),
    (PLAIN.replace(b"one", b"two"), b"body"),
    (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", None),
    (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    (b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n", b"late"),
    (PLAIN.replace(b"host: x", b"host: x\r\nhost: y"), b"refused"),
    (PLAIN.replace(b"POST", b"P ST"), b"refused"),
    (PLAIN.replace(b"authorization: one", b"connection: close"), b"last"),
    (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), b"last"),
    (PLAIN.replace(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: h2c"), b"refused"),
    (PLAIN.replace(b"POST /mcp?a=1", b"CONNECT x:1"), b"refused"),
    (b"\r\n", None),
]
_sent = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 0, *range(len(REQUESTS))]), st.booleans(), st.integers(0, 200)), max_size=12
)


def pieces(chosen: list[tuple[int, bool, int]]) -> list[bytes]:
    """What arrives at once: requests by themselves, with the one before, or cut somewhere."""
    found: list[bytes] = []
    for index, joined, cut in chosen:
        head, body = REQUESTS[index]
        data = head if body is None else message(body, head)
        if joined and found:
            found[-1] += data
        elif cut % 3 == 0:
            found += [data[: cut % len(data)], data[cut % len(data) :]]
        else:
            found.append(data)
    return [piece for piece in found if piece]


def connected(application: Any, wire: Wire) -> GuardedHttp:
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    connection = GuardedHttp(BusyPolling(0), config, ServerState(), {})
    connection.connection_made(wire)
    return connection


async def heard(arriving: list[bytes]) -> list[Any]:
    """What an application is asked on a connection, and what goes back."""
    asked: list[Any] = []

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        cycle: Cycle = scope[SHORT]
        body = b"" if scope["path"] == "/early" else cycle.taken()
        while body is None:
            got = await receive()
            body = got.get("body", b"")
            while got.get("more_body"):
                got = await receive()
                body += got.get("body", b"")
        asked.append(({**scope, SHORT: None}, body))
        cycle.respond(200, (), b"ok")

    wire = Wire()
    connection = connected(application, wire)
    for piece in arriving:
        if not wire.closed:
            connection.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    return [asked, wire.written, wire.closed]


@settings(max_examples=300, deadline=None)
@given(_sent)
def test_requests_are_heard_as_without_known_heads(chosen: list[tuple[int, bool, int]]) -> None:
    arriving = pieces(chosen)
    with_them = asyncio.run(heard(arriving))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownHead, "of", lambda data: None)
        without = asyncio.run(heard(arriving))
    assert with_them == without


BODY_LIKE_A_HEAD = b"POST /hidden HTTP/1.1\r\nhost: x\r\ncontent-length: 46\r\n\r\n"


@pytest.mark.parametrize(
    "arriving",
    [
        # Answered before its body has come, of which the end reads like the head of a request.
        [
            b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY_LIKE_A_HEAD),
            BODY_LIKE_A_HEAD + b"POST /x HTTP/1.1\r\nhost:x\r\ncontent-length:0\r\n\r\n",
        ],
        # Begun behind another request, by a header whose value reads like the first line of a request.
        [
            message(b"1", PLAIN) + b"POST /outer HTTP/1.1\r\nx-first: ",
            b"POST /hidden HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        ],
    ],
)
async def test_what_only_reads_like_a_request_is_never_known_for_one(arriving: list[bytes]) -> None:
    assert KnownHead.of(arriving[-1]) is not None
    arriving.append(arriving[-1])
    asked, _, _ = await heard(arriving)
    assert [scope["path"] for scope, _ in asked][-1] == "/hidden"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownHead, "of", lambda data: None)
        assert asked == (await heard(arriving))[0]


@pytest.mark.parametrize("first", [b"POST /mcp", b"CONNECT x:1"])
@pytest.mark.parametrize("framing", [b"content-length: 43", b"transfer-encoding: chunked"])
async def test_a_body_behind_a_change_of_protocol_is_no_request(first: bytes, framing: bytes) -> None:
    head = first + b" HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n" + framing + b"\r\n\r\n"
    asked, written, closed = await heard([head, b"GET /smuggled HTTP/1.1\r\nhost: x\r\nx-padding: 1\r\n\r\n"])
    assert (asked, written[:12], closed) == ([], b"HTTP/1.1 400", True)


async def test_a_blank_line_begins_no_request_and_keeps_no_connection_open() -> None:
    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        scope[SHORT].respond(200, (), b"ok")

    wire = Wire()
    connection = connected(application, wire)
    connection.data_received(message(b"{}", PLAIN))
    await asyncio.sleep(0)
    connection._look()
    connection.data_received(b"\r\n")
    connection._look()
    assert not wire.closed
    connection.timeout_keep_alive = -1
    connection._look()
    assert wire.closed
    connection.connection_lost(None)


async def test_a_request_with_a_known_head_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparison above would compare nothing."""
    parsed = 0
    begins = GuardedHttp.on_message_begin

    def count(self: GuardedHttp) -> None:
        nonlocal parsed
        parsed += 1
        begins(self)

    monkeypatch.setattr(GuardedHttp, "on_message_begin", count)
    asked, _, _ = await heard([message(body, PLAIN) for body in (b"1", b"22", b"333", b"4444")])
    assert [body for _, body in asked] == [b"1", b"22", b"333", b"4444"]
    assert [dict(scope["headers"])[b"content-length"] for scope, _ in asked] == [b"1", b"2", b"3", b"4"]
    assert parsed == 2, "the first of a connection, and the one that is remembered"


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ANSWERS = [
    message(b"{}", ANSWER),
    message(b'{"more":1}', ANSWER),
    message(b"{}", ANSWER.replace(b"200 OK", b"404 No")),
    message(b"{}", ANSWER.replace(b"content-type", b"mcp-session-id: s\r\ncontent-type")),
    message(b"x" * 200_000, ANSWER),
    message(b"{}", ANSWER.replace(b"content-type", b"connection: close\r\ncontent-type")),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + message(b"{}", ANSWER),
    message(b"{}", ANSWER) * 2,
    b"HTTP/1.1 200 OK\r\n" + message(b"{}", ANSWER),
]


async def answered(arriving: list[list[bytes]]) -> list[Any]:
    """What callers get out of the answers of a connection, one after the other, and whether it is kept."""
    pool = Pool(None, None, 1.0)  # type: ignore[arg-type]
    found: list[Any] = []
    connection = pool_module._Connection(pool)
    connection.connection_made(Wire())
    for answer in arriving:
        if not connection.usable():
            break
        asking = asyncio.create_task(connection.send(b"head", b""))
        await asyncio.sleep(0)
        for piece in answer:
            connection.data_received(piece)
        await asyncio.sleep(0)
        if not asking.done() or connection._stream is not None:
            connection.connection_lost(None)
        try:
            response = await asking
            body = [piece async for piece in response.stream] if response.stream is not None else response.body
            found.append([_said(response), body])
        except pool_module.ConnectionFailed as error:
            found.append(str(error))
    return found


def _said(response: Response) -> dict[str, Any]:
    return {
        name: getattr(response, name)
        for name in Response.__slots__
        if not isinstance(getattr(response, name), BodyStream)
    }


_answers = st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, *range(len(ANSWERS))]), st.integers(0, 400)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(_answers)
def test_answers_are_read_as_without_known_heads(chosen: list[tuple[int, int]]) -> None:
    arriving: list[list[bytes]] = []
    for index, cut in chosen:
        data = ANSWERS[index]
        arriving.append([data[: cut % len(data)], data[cut % len(data) :]] if cut % 3 == 0 else [data])
    arriving = [[piece for piece in answer if piece] for answer in arriving]
    with_them = asyncio.run(answered(arriving))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownHead, "of", lambda data: None)
        without = asyncio.run(answered(arriving))
    assert with_them == without


async def test_what_only_reads_like_an_answer_is_never_known_for_one() -> None:
    inner = message(b"{}", ANSWER.replace(b"200 OK", b"404 No"))
    found = await answered([[b"HTTP/1.1 200 OK\r\nx: ", inner], [inner]])
    assert [head["status"] for head, _ in found] == [200, 404]


async def test_an_answer_with_a_known_head_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    begins = pool_module._Connection.on_message_begin

    def count(self: pool_module._Connection) -> None:
        nonlocal parsed
        parsed += 1
        begins(self)

    monkeypatch.setattr(pool_module._Connection, "on_message_begin", count)
    found = await answered([[message(body, ANSWER)] for body in (b"1", b"22", b"333")])
    assert [body for _, body in found] == [b"1", b"22", b"333"]
    assert [head["length"] for head, _ in found] == [1, 2, 3]
    assert parsed == 1
