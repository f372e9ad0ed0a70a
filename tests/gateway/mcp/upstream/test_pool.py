"""The data path's own HTTP client: every way a response may be cut, framed or broken, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from gateway.mcp.upstream import pool as pool_module
from gateway.mcp.upstream.pool import BUFFER_UP_TO, HIGH_WATER, ConnectionFailed, Pool, Response
from registry.core.egress import Egress, EgressPolicy, vet_url

BODY = b'{"ok":true}'
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s1\r\ncontent-length: 11\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nMcp-Session-Id: s1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"4\r\n" + BODY[:4] + b"\r\n7;ext=1\r\n" + BODY[4:] + b"\r\n0\r\ntrailer: x\r\n\r\n"
)
CLOSED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s1\r\n\r\n" + BODY
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\ncontent-type: text/event-stream\r\nlink: x\r\n\r\n" + LENGTH
)
FRAMINGS = {"length": LENGTH, "chunked": CHUNKED, "closed": CLOSED, "interim": INTERIM}

Behaviour = Callable[["Line"], Awaitable[None]]


@dataclass(eq=False)
class Line:
    """One connection, from the server's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        while await self.reader.read(65536):
            pass


@dataclass
class Peer:
    pool: Pool
    lines: list[Line] = field(default_factory=list)
    """Every connection that was made."""
    open: set[Line] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self) -> Response:
        return await asyncio.wait_for(self.pool.send(REQUEST, b""), 10)

    async def until_open(self, count: int) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: len(self.open) == count), 10)


@asynccontextmanager
async def peer(behaviour: Behaviour) -> AsyncIterator[Peer]:
    """A pool and the server that it speaks to; `behaviour` serves one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        made.lines.append(line)
        made.open.add(line)
        with suppress(OSError, asyncio.IncompleteReadError):
            await behaviour(line)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        async with made.changed:
            made.open.discard(line)
            made.changed.notify_all()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    made = Peer(Pool(Egress(EgressPolicy(local_mode=True)), vet_url(url), 5))
    try:
        yield made
    finally:
        await made.pool.close()
        server.close()
        for line in tuple(made.open):
            line.writer.transport.abort()
        await server.wait_closed()


def answering(*pieces: bytes, close: bool = False) -> Behaviour:
    async def behave(line: Line) -> None:
        while True:
            await line.request()
            for piece in pieces:
                await line.send(piece)
                await asyncio.sleep(0)
            if close:
                return

    return behave


async def whole(response: Response) -> bytes:
    return response.body if response.stream is None else b"".join([piece async for piece in response.stream])


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_response_cut_at_every_byte(framing: str) -> None:
    data = FRAMINGS[framing]
    places = iter(range(1, len(data)))

    async def behave(line: Line) -> None:
        while True:
            await line.request()
            place = next(places)
            await line.send(data[:place])
            await asyncio.sleep(0)
            await line.send(data[place:])
            if framing == "closed":
                return

    async with peer(behave) as server:
        for _ in range(1, len(data)):
            response = await server.send()
            assert (response.status, response.content_type, response.session_id) == (200, b"application/json", b"s1")
            assert await whole(response) == BODY
        assert len(server.lines) == (len(data) - 1 if framing == "closed" else 1)


async def test_one_byte_at_a_time() -> None:
    async with peer(answering(*(bytes([byte]) for byte in CHUNKED))) as server:
        assert await whole(await server.send()) == BODY


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_what_ends_too_early_is_no_answer(framing: str) -> None:
    data = FRAMINGS[framing]
    async with peer(answering(data[: data.index(BODY[4:]) + 2], close=True)) as server:
        with pytest.raises(ConnectionFailed) as failed:
            await server.send()
        assert failed.value.sent


async def test_a_connection_is_used_again_and_only_while_it_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answering(LENGTH)) as server:
        for _ in range(5):
            await server.send()
        assert len(server.lines) == 1
        monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.0)
        await server.send()
        assert len(server.lines) == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    async with peer(answering(LENGTH, close=True)) as server:
        await server.send()
        await server.until_open(0)
        await asyncio.sleep(0)
        assert (await server.send()).body == BODY
        assert len(server.lines) == 2


@pytest.mark.parametrize(
    "extra", [LENGTH, CHUNKED, b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 3, LENGTH[:40]]
)
async def test_bytes_that_nobody_asked_for_never_reach_another_caller(extra: bytes) -> None:
    async with peer(answering(LENGTH + extra)) as server:
        first = await server.send()
        assert first.body == BODY
        assert server.pool.idle == 0
        both = await asyncio.gather(server.send(), server.send())
        assert [response.body for response in both] == [BODY, BODY]
        assert len(server.lines) == 3


async def test_bytes_on_an_idle_connection_end_it() -> None:
    speak = asyncio.Event()

    async def behave(line: Line) -> None:
        await line.request()
        await line.send(LENGTH)
        await speak.wait()
        await line.send(LENGTH)
        await line.gone()

    async with peer(behave) as server:
        await server.send()
        assert server.pool.idle == 1
        speak.set()
        await server.until_open(0)
        assert server.pool.idle == 0


async def test_a_server_that_speaks_or_closes_before_it_is_asked() -> None:
    async def behave(line: Line) -> None:
        await line.send(LENGTH)

    async with peer(behave) as server:
        for _ in range(5):
            # Whether it spoke before or after it was asked, only it can know.
            with suppress(ConnectionFailed):
                assert (await server.send()).body == BODY
        await server.until_open(0)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 70_000) + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(20_000)) + b"\r\n",
        b"HTTP/1.1 100 Continue\r\nx: %b\r\n\r\n" % (b"y" * 1000) * 100 + LENGTH,
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/0.9 nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01\x00\x00",
    ],
    ids=range(12),
)
async def test_what_is_no_proper_response_fails_and_closes(head: bytes) -> None:
    async with peer(answering(head, close=True)) as server:
        with pytest.raises(ConnectionFailed):
            await server.send()
        assert server.pool.idle == 0


async def test_a_large_body_is_streamed_and_the_server_waits_for_its_reader() -> None:
    size = 64 * HIGH_WATER
    sent = 0

    async def behave(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await line.send(b"x" * 65536)
            sent += 65536
        await line.gone()

    async with peer(behave) as server:
        response = await server.send()
        assert response.stream is not None
        before = -1
        while sent != before:
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        # What the kernel holds comes on top of what the pool does.
        assert sent < size // 2
        assert len(await whole(response)) == size
        assert server.pool.idle == 1


async def test_a_body_that_turns_out_large_is_streamed() -> None:
    body = b"x" * (BUFFER_UP_TO + 10)
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with peer(answering(data)) as server:
        response = await server.send()
        assert response.stream is not None
        assert await whole(response) == body
        assert server.pool.idle == 1


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\n: x\n\n\r\n"


async def test_a_stream_closed_early_closes_its_connection() -> None:
    async def behave(line: Line) -> None:
        await line.request()
        await line.send(EVENTS)
        await line.gone()

    async with peer(behave) as server:
        response = await server.send()
        assert response.stream is not None
        assert await anext(response.stream) == b": x\n\n"
        await response.stream.aclose()
        await server.until_open(0)
        with pytest.raises(StopAsyncIteration):
            await anext(response.stream)


async def test_a_stream_that_was_left_gives_its_connection_back_when_it_ends() -> None:
    finish = asyncio.Event()

    async def behave(line: Line) -> None:
        await line.request()
        await line.send(EVENTS)
        await finish.wait()
        await line.send(b"400\r\n" + b"y" * 1024 + b"\r\n0\r\n\r\n")
        await line.request()
        await line.send(LENGTH)

    async with peer(behave) as server:
        response = await server.send()
        assert response.stream is not None
        response.stream.leave()
        finish.set()
        while not server.pool.idle:
            await asyncio.sleep(0)
        assert (await server.send()).body == BODY
        assert len(server.lines) == 1


async def test_a_stream_that_was_left_and_does_not_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LEAVE_SECONDS", 0.01)

    async def behave(line: Line) -> None:
        await line.request()
        await line.send(EVENTS)
        await line.gone()

    async with peer(behave) as server:
        response = await server.send()
        assert response.stream is not None
        response.stream.leave()
        await server.until_open(0)


async def test_a_cancelled_request_closes_its_connection() -> None:
    async def behave(line: Line) -> None:
        await line.request()
        await line.gone()

    async with peer(behave) as server:
        task = asyncio.create_task(server.pool.send(REQUEST, b""))
        while not server.lines:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.until_open(0)


async def test_a_request_cancelled_as_its_answer_arrives_leaves_the_next_callers_alone() -> None:
    """The connection may be another's already when the cancelled caller gets to run."""
    asked: asyncio.Queue[Line] = asyncio.Queue()

    async def behave(line: Line) -> None:
        while True:
            await line.request()
            await asked.put(line)

    async with peer(behave) as server:
        first = asyncio.create_task(server.pool.send(REQUEST, b""))
        line = await asked.get()
        second: asyncio.Task[Response] | None = None
        put = server.pool.put

        def put_and_take(connection: object) -> None:
            nonlocal second
            put(connection)  # type: ignore[arg-type]
            # As when another task takes the connection before the first caller runs, whose deadline is over.
            taken = server.pool._take()
            assert taken is connection
            second = asyncio.create_task(taken.send(REQUEST, b""))
            first.cancel()

        server.pool.put = put_and_take  # type: ignore[method-assign]
        await line.send(LENGTH)
        await asyncio.gather(first, return_exceptions=True)
        server.pool.put = put  # type: ignore[method-assign]
        await asked.get()
        await line.send(LENGTH)
        assert second is not None
        assert (await asyncio.wait_for(second, 10)).body == BODY


async def test_a_closed_pool_keeps_nothing_open() -> None:
    answer = asyncio.Event()

    async def behave(line: Line) -> None:
        await line.request()
        await answer.wait()
        await line.send(LENGTH)
        await line.gone()

    async with peer(behave) as server:
        task = asyncio.create_task(server.pool.send(REQUEST, b""))
        while not server.lines:
            await asyncio.sleep(0)
        await server.pool.close()
        answer.set()
        assert (await task).body == BODY
        await server.until_open(0)
        gc.collect()
        assert server.pool.idle == 0
