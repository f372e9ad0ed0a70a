"""What is sent of one exchange goes out together where it is sent without a pause, and at once where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.cycle import JOINED_UP_TO, SHORT, Cycle

START = {"type": "http.response.start", "status": 200, "headers": []}
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Pipe(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "what is written after closing is lost"
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def ran(application: Callable[[Any, Any, Any], Any]) -> Pipe:
    pipe = Pipe()
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp"}
    cycle = scope[SHORT] = Cycle(scope, pipe, FlowControl(pipe), [], lambda: None, expects=False, keep_alive=True)
    await cycle.run(application, set())
    return pipe


async def test_what_is_sent_without_a_pause_is_one_write() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, piece(b"a"), piece(b"b"), piece(b"", more=False)):
            await send(message)

    assert (await ran(application)).writes == [HEAD + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"]


async def test_what_is_sent_before_a_pause_does_not_wait_for_its_end() -> None:
    seen: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"a"))
        await asyncio.sleep(0)
        seen.append(len(scope[SHORT]._transport.writes))
        await send(piece(b"b", more=False))

    pipe = await ran(application)
    assert pipe.writes == [HEAD + b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"]
    assert seen == [1]


async def test_no_more_is_gathered_than_a_little() -> None:
    large = b"x" * JOINED_UP_TO

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(4):
            await send(piece(large))
            assert not scope[SHORT]._gathered
        await send(piece(b"", more=False))

    assert len((await ran(application)).writes) == 5


async def test_what_was_sent_before_a_failure_arrives() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"a"))
        raise RuntimeError("half way")

    pipe = await ran(application)
    assert (pipe.writes, pipe.closed) == ([HEAD + b"1\r\na\r\n"], True)
