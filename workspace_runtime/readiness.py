"""Waits for the server inside to answer, over whatever line a runtime gives to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_ASK = b"GET /ready HTTP/1.1\r\nHost: workspace\r\nConnection: close\r\n\r\n"

Connect = Callable[[Callable[[], asyncio.StreamReaderProtocol]], Awaitable[tuple[asyncio.Transport, object]]]


async def wait_until_ready(connect: Connect, until: float) -> None:
    """Args:
        connect: opens a line to the server, and waits for it as long as it is not there.
        until: by the loop's time.

    Raises:
        TimeoutError: it has not answered by then.
        ConnectionError: the line ended without an answer: the server has.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    async with asyncio.timeout_at(until):
        transport, _ = await connect(lambda: asyncio.StreamReaderProtocol(reader, loop=loop))
        try:
            transport.write(_ASK)
            answer = await reader.readline()
        finally:
            transport.abort()
    if b" 200 " not in answer:
        raise ConnectionError("the server ended before it answered")
