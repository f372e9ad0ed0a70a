"""What Python can do with bytes alone: a reverse proxy with a keep-alive pool, on `asyncio.Protocol`, uvloop and
httptools.

    python bench/launch/byte_proxy.py PORT UPSTREAM_PORT

Every byte goes on as it came, in both directions; the parsers only find where a message ends, so that a connection to
the upstream can be lent to the next client. No authentication, no policy, no JSON, no header of its own: what a gateway
written in Python takes beyond this, it takes for its work. A program of its own for `bench/ceilings.py`, not a proxy to
use: it speaks to one upstream that it trusts, and knows neither HEAD nor upgrades nor time-outs.
"""

from __future__ import annotations

import asyncio
import sys

import httptools
import uvloop


class Side(asyncio.Protocol):
    """One connection. Where `other`'s bytes cannot leave as fast as they come, `other` stops reading."""

    transport: asyncio.Transport
    other: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a TCP connection

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.read_on()

    def read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def part(self) -> None:
        """The two sides let each other go; either may have been told to stop reading for the other's sake."""
        if other := self.other:
            self.other = other.other = None
            self.read_on()
            other.read_on()


class Server(Side):
    """A connection to the upstream: lent to one client at a time, idle in the pool otherwise."""

    other: Client | None

    def __init__(self, idle: list[Server]) -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        client = self.other
        if client is None:
            self.transport.abort()  # nobody asked
            return
        client.transport.write(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self.other:
            self.other.owed -= 1
            self.other.settle(reusable=self._parser.should_keep_alive())

    def give_back(self) -> None:
        self.part()
        self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        elif self.other:
            self.other.transport.close()
            self.part()


class Client(Side):
    """A client's connection. `owed` counts the requests that have begun and whose answers have not ended."""

    other: Server | None

    def __init__(self, idle: list[Server], port: int) -> None:
        self._idle, self._port = idle, port
        self._parser = httptools.HttpRequestParser(self)
        self._connecting: asyncio.Task[None] | None = None
        self._midway = False
        self.owed = 0

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()
            return
        if self.other:
            self.other.transport.write(data)
        elif self._idle:
            self._borrow(self._idle.pop(), data)
        else:
            self.transport.pause_reading()
            self._connecting = asyncio.ensure_future(self._connect(data))

    def _borrow(self, server: Server, data: bytes) -> None:
        self.other, server.other = server, self
        server.transport.write(data)

    async def _connect(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(lambda: Server(self._idle), "127.0.0.1", self._port)
        except OSError:
            self.transport.abort()
            return
        if self.transport.is_closing():
            server.transport.abort()
            return
        self._borrow(server, data)
        self.transport.resume_reading()

    def on_message_begin(self) -> None:
        self.owed += 1
        self._midway = True

    def on_message_complete(self) -> None:
        self._midway = False

    def settle(self, *, reusable: bool) -> None:
        """After an answer: the upstream's connection is free when nothing is owed and no request is half sent."""
        if self.other and not self.owed and not self._midway and reusable:
            self.other.give_back()

    def connection_lost(self, exc: Exception | None) -> None:
        if server := self.other:
            self.part()
            server.transport.abort()  # its answer, or the rest of it, is nobody's now


async def main(port: int, upstream: int) -> None:
    idle: list[Server] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(idle, upstream), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
